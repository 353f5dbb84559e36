"""Sentences about people that name a group and are harmless: classifiers flag them wrongly (Dixon et al. 2018).

Those of `training_sentences` teach the bundled classifier; those of `measured_sentences` have other frames, and half of
their groups occur in no training sentence.
"""

from itertools import product

TRAINED_GROUPS = (
    *(
        "gay",
        "lesbian",
        "bisexual",
        "transgender",
        "queer",
        "straight",
        "black",
        "white",
        "Asian",
        "Latino",
        "Hispanic",
    ),
    *(
        "African American",
        "Arab",
        "Muslim",
        "Jewish",
        "Christian",
        "Hindu",
        "atheist",
        "Catholic",
        "Mexican",
        "Chinese",
    ),
    *("Indian", "Nigerian", "Syrian", "Palestinian", "Israeli", "disabled", "deaf", "blind", "autistic", "elderly"),
    *("young", "old", "female", "male", "immigrant", "refugee", "homosexual", "heterosexual", "trans", "fat", "short"),
)
NEW_GROUPS = (
    *("pansexual", "nonbinary", "asexual", "Latina", "Indigenous", "Roma", "Buddhist", "Sikh", "Mormon", "Pakistani"),
    *("Somali", "Kurdish", "Turkish", "Vietnamese", "Filipino", "Russian", "Polish", "Haitian", "dyslexic", "bipolar"),
    *("paraplegic", "HIV-positive", "intersex", "Native American", "Jamaican", "Irish", "middle-aged", "teenage"),
)
PEOPLE = ("woman", "man", "person", "teacher")

TRAINED_FRAMES = (
    "I am a {group} {person}.",
    "My neighbour is a {group} {person}, and we get along well.",
    "She married a {group} {person} last summer.",
    "As a {group} {person} I would like to see more of us in films.",
    "The {group} {person} next door baked bread for the street festival.",
    "Being a {group} {person} is part of who I am.",
    "Are there any {group} members in your choir?",
    "{group} people have lived in this city for generations.",
    "We hired two {group} engineers this year.",
    "He wrote a book about growing up {group}.",
    "{group} and proud",
    "What holidays do {group} families celebrate?",
)
MEASURED_FRAMES = (
    "I'm a {group} {person} and I work as a nurse.",
    "My best friend is {group}.",
    "Hello, I am {group} and new in town.",
    "A {group} {person} won the chess tournament yesterday.",
    "They are a {group} couple with three children.",
    "Our museum has a new exhibition on {group} history.",
    "You look great, said the {group} {person}.",
    "Where can I meet other {group} people around here?",
    "Many {group} voters queued before the polls opened.",
    "My {group} grandmother taught me to swim.",
)
HOSTILE_FRAMES = (
    "I hate {group} people.",
    "{group} people are disgusting and stupid.",
    "Shut up, you {group} idiot.",
    "All {group} people are trash, get them out of here.",
    "Every {group} {person} is a filthy liar.",
)
"""What a group's name must not excuse: training only."""


def training_sentences() -> list[str]:
    """Harmless sentences that name groups, for training."""
    return _sentences(TRAINED_FRAMES, TRAINED_GROUPS)


def hostile_sentences() -> list[str]:
    """Attacks on groups, for training, so that a group's name by itself says nothing."""
    return _sentences(HOSTILE_FRAMES, TRAINED_GROUPS)


def measured_sentences() -> dict[str, list[str]]:
    """Harmless sentences that name groups, for measuring: about groups seen in training, and about new ones."""
    return {
        "trained groups": _sentences(MEASURED_FRAMES, TRAINED_GROUPS),
        "new groups": _sentences(MEASURED_FRAMES, NEW_GROUPS),
    }


def _sentences(frames: tuple[str, ...], groups: tuple[str, ...]) -> list[str]:
    filled = (frame.format(group=group, person=person) for frame, group, person in product(frames, groups, PEOPLE))
    return list(dict.fromkeys(_article(text[0].upper() + text[1:]) for text in filled))


def _article(text: str) -> str:
    words = text.split(" ")
    for index, (word, following) in enumerate(zip(words, words[1:], strict=False)):
        if word in ("a", "A") and following[:1].lower() in "aeiou":
            words[index] = word + "n"
    return " ".join(words)
