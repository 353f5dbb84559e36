"""Texts of a megabyte that are made to be slow."""

MILLION = 1_000_000
HOSTILE = {
    "one word": "x" * MILLION, "words of one word": "word " * (MILLION // 5), "brackets": "(" * MILLION,
    "no spaces": "aB3.,-'\"()/:@" * (MILLION // 13), "zero width": "a\u200bb\u200d " * (MILLION // 9),
    "right to left": "שלום עולם \u202e" * (MILLION // 21), "newlines": "\n" * MILLION, "dots": "." * MILLION,
    "punctuation": "!?.,;:-()[]{}\"'" * (MILLION // 15), "combining": "a" + "\u0301" * (MILLION // 2),
    "sentences": "a." * (MILLION // 2), "infixes": "a-" * (MILLION // 2), "smileys": ":)" * (MILLION // 2),
    "possessives": "'s" * (MILLION // 2), "lines": "a\n" * (MILLION // 2), "citations": "[1] " * (MILLION // 4),
    "address": "http://" + "a." * (MILLION // 2), "mail": "@:" * (MILLION // 2), 
    "lone surrogates": "\ud800" * (MILLION // 3),
    "distinct": " ".join(f"a.b{number}" for number in range(MILLION // 9)), "nul": "\0" * MILLION,
}  # fmt: skip
