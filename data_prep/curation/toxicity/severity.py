"""Sentences that differ in whom a strong word is about, written for this project, for training only.

A teacher that knows single words takes "this printer sucks" for "you suck". Abuse and threats are aimed at people;
complaints about things, and killing in news, games and computers, are harmless.
"""

from itertools import product

MILD = (
    *("stupid", "dumb", "crap", "crappy", "idiotic", "moronic", "lame", "pathetic", "garbage", "trash", "ridiculous"),
    *("awful", "horrible", "terrible", "ugly", "disgusting", "worthless", "rubbish", "silly", "gross", "damn awful"),
)
THINGS = (
    *("printer", "update", "ending", "weather", "bus", "menu", "plot", "password rule", "chair", "sequel", "sandwich"),
    *("form", "queue", "song", "character", "joke", "dialogue", "camera", "lid", "decision", "rule", "meeting"),
)
COMPLAINTS = (
    "This {thing} is {mild}.",
    "What a {mild} {thing}, I want my money back.",
    "The {thing} was really {mild} and far too long.",
    "Honestly the {thing} sucks, but the rest is fine.",
    "I hate this {thing}, such a pain to deal with.",
    "They made a {mild} {thing} and it still sold well.",
    "Damn, the {thing} broke again, what the hell.",
    "The hero is an idiot, and his {thing} is {mild}.",
)
ABUSE = (
    "You are {mild}.",
    "You {mild} loser, nobody wants you here.",
    "Shut your {mild} mouth.",
    "What a {mild} person you are, go away.",
    "You and your whole family are {mild}.",
    "He is a {mild} piece of trash and should rot.",
    "She's just a {mild} cow.",
    "Only {mild} idiots like you believe that.",
    "People like you are {mild} scum.",
)
THREATS = (
    "I will kill you.",
    "I'm going to kill you and your family.",
    "I hope you die.",
    "I hope you all burn in hell.",
    "Somebody should shoot him in the head.",
    "I'll break your neck if I see you again.",
    "They should all be hanged.",
    "You deserve to be beaten to death.",
    "I want to punch you in the face.",
    "We will find you and hurt you.",
    "Go kill yourself.",
    "Drop dead, you make me sick.",
    "I would love to see her bleed.",
    "Watch your back, you're dead meat.",
    "He needs a bullet in the brain.",
    "I'll cut your throat.",
)
HARMLESS_KILLING = (
    "How do I kill a process that hangs?",
    "The storm killed twelve people on Sunday.",
    "He was killed in the war when I was a child.",
    "You kill the dragon at the end of the level.",
    "The murder trial begins next week, police said.",
    "My feet are killing me after that walk.",
    "The detective finds the body and arrests the killer.",
    "A man was shot dead outside a shop, a spokesman said.",
    "Frost will kill the tomatoes if you plant them now.",
    "She survived the attack and described the rape in court.",
    "The film shows how soldiers died in the trenches.",
    "Drink water, or the heat will kill you.",
)
ENDINGS = (
    "",
    " Seriously.",
    " I mean it.",
    " That is all I have to say.",
    " What do you think?",
    " Last night.",
    " Again.",
)


def harmless_sentences() -> list[str]:
    """Complaints about things, and death without a threat."""
    complaints = [frame.format(thing=thing, mild=mild) for frame, thing, mild in product(COMPLAINTS, THINGS, MILD)]
    return list(dict.fromkeys(complaints + _ended(HARMLESS_KILLING)))


def toxic_sentences() -> list[str]:
    """Abuse of people, and threats."""
    abuse = [frame.format(mild=mild) for frame, mild in product(ABUSE, MILD)]
    return list(dict.fromkeys(_ended([*abuse, *THREATS])))


def _ended(sentences: tuple[str, ...] | list[str]) -> list[str]:
    return [sentence + ending for sentence in sentences for ending in ENDINGS]
