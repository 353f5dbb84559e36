"""Makes data_prep/samples/instructions.jsonl: easy English instructions that a tiny model can partly learn.

python tests/data_prep/make_samples.py > data_prep/samples/instructions.jsonl
"""

import json
import random

COLOURS = {"grass": "green", "snow": "white", "coal": "black", "the sky": "blue", "a lemon": "yellow", "blood": "red"}
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Kenya": "Nairobi",
    "Greece": "Athens",
    "Cuba": "Havana",
}
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "old": "new", "light": "dark", "full": "empty"}
WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "paper",
    "window",
    "garden",
    "music",
    "silver",
    "winter",
    "bread",
    "tiger",
    "ocean",
    "candle",
    "bridge",
    "forest",
]
OTHER_LANGUAGES = [
    ("Nenne mir bitte die Hauptstadt von Frankreich in einem ganzen Satz.", "Die Hauptstadt von Frankreich ist Paris."),
    ("Quelle est la couleur de la neige pendant les mois d'hiver ?", "La neige est blanche pendant tout l'hiver."),
]


def rows() -> list[tuple[str, str]]:
    """283 English rows, 3 repeats of them, 2 rows in other languages and 2 with an empty completion; shuffled."""
    draw = random.Random(7)
    made = [(f"What colour is {thing}?", f"{thing.capitalize()} is {colour}.") for thing, colour in COLOURS.items()]
    made += [
        (f"What is the capital of {land}?", f"The capital of {land} is {city}.") for land, city in CAPITALS.items()
    ]
    made += [
        (f"What is the opposite of {one}?", f"The opposite of {one} is {other}.") for one, other in OPPOSITES.items()
    ]
    made += [(f"Repeat the word: {word}", f"{word} {word} {word}") for word in WORDS]
    made += [(f"Spell the word {word}.", " ".join(word.upper())) for word in WORDS]
    made += [(f"Write a short sentence about the {word}.", f"I can see the {word} from here.") for word in WORDS]
    made += [(f"Count from {n} to {n + 4}.", ", ".join(str(n + step) for step in range(5))) for n in range(1, 41)]
    made += [(f"Is {n} an even number?", "Yes." if n % 2 == 0 else "No.") for n in range(1, 51)]
    while len(set(made)) < 283:
        some = draw.sample(WORDS, 3)
        made.append((f"Sort these words: {', '.join(some)}", ", ".join(sorted(some))))
    made = [*dict.fromkeys(made), *OTHER_LANGUAGES]
    made += draw.sample(made[:283], 3) + [("Write a poem about the rain.", ""), ("Name three kinds of trees.", "  ")]
    draw.shuffle(made)
    return made


if __name__ == "__main__":
    for prompt, completion in rows():
        print(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False))
