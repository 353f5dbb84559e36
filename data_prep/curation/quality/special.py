"""Words that English tokenisation keeps whole or splits in a way no general rule does, after spaCy's blank English.

Written after the exception list of spaCy 3.8 (MIT licence), so that word counts agree with pipelines that use it.
"""

_EMOTICONS = r"""
:) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( :(( :-((
:((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o :0 :-0 :() >:o
:* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< >.> <.< ._. ;_; -_-
-__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.)
(>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""

_WHOLE = r"""
\t \n — ' \") <space> '' C++ ä. ö. ü. doin doin' Doin Doin' goin goin' Goin Goin' nothin nothin' Nothin Nothin' nuthin
nuthin' Nuthin Nuthin' ol ol' Ol Ol' somethin somethin' Somethin Somethin' em 'em ll 'll nuff 'nuff 'S 's ‘S ‘s and/or
w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock lovin' Lovin' lovin Lovin havin'
Havin' havin Havin Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan.
Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla.
Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. 'd a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e.
I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
"""

_SPLIT = """
y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta let|'s Let|'s
c'm|on C'm|on °|c|. °|f|. °|k|. °|C|. °|F|. °|K|.
"""

_SUBJECTS = [
    "i",
    "you",
    "he",
    "she",
    "it",
    "we",
    "they",
    "who",
    "what",
    "when",
    "where",
    "why",
    "how",
    "there",
    "that",
    "this",
    "these",
    "those",
]
_HAVE_AND_ARE = {"you", "we", "they", "who", "what", "when", "where", "why", "how", "there", "these", "those"}
_IS = set(_SUBJECTS) - {"i", "you", "we", "they", "these", "those"}
_NOT = [
    "ca",
    "could",
    "do",
    "does",
    "did",
    "had",
    "may",
    "might",
    "must",
    "need",
    "ought",
    "sha",
    "should",
    "wo",
    "would",
    "ai",
    "are",
    "is",
    "was",
    "were",
    "have",
    "has",
    "dare",
]
_NOT_HAVE = [
    "ca",
    "could",
    "do",
    "does",
    "did",
    "had",
    "may",
    "might",
    "must",
    "need",
    "ought",
    "sha",
    "should",
    "wo",
    "would",
]
_MODALS = ["could", "might", "must", "should", "would"]
_ORDINARY = set("Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore".split())  # noqa: SIM905


def special_words() -> dict[str, tuple[str, ...]]:
    """Every special word and the words it is split into (itself, when it is kept whole)."""
    words = {word: (word,) for word in _WHOLE.split() + _EMOTICONS.split()}
    words |= {f"{letter}.": (f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyz"}
    splits = [tuple(word.split("|")) for word in _SPLIT.split()] + _contractions()
    splits += [(str(hour), noon) for hour in range(1, 13) for noon in ("a.m.", "am", "p.m.", "pm")]
    words |= {"".join(parts): parts for parts in splits}
    words = {word: parts for word, parts in words.items() if word not in _ORDINARY}
    return words | {_curly(word): tuple(map(_curly, parts)) for word, parts in words.items()}


def _curly(word: str) -> str:
    return word.replace("'", "’")


def _contractions() -> list[tuple[str, ...]]:
    """With an apostrophe and, as carelessly typed text has it, without one."""
    tails: list[tuple[str, ...]] = []
    for subject in _SUBJECTS:
        endings = [("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve")]
        endings += [("'m",), ("'m", "a"), ("'ve",)] if subject == "i" else []
        endings += [("'re",), ("'ve",)] if subject in _HAVE_AND_ARE else []
        endings += [("'s",)] if subject in _IS else []
        tails += [(subject, *ending) for ending in endings]
    tails += [(verb, "n't") for verb in _NOT] + [(verb, "n't", "'ve") for verb in _NOT_HAVE]
    tails += [(verb, "'ve") for verb in _MODALS]
    tails += [(parts[0].title(), *parts[1:]) for parts in tails]
    return tails + [(parts[0], *(part.replace("'", "") for part in parts[1:])) for parts in tails]
