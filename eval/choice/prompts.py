"""What the model is shown: prompts as data, solved examples before the question, and the continuations compared."""

import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from data_prep.errors import DataError
from eval.choice.config import ChoiceConfig, PromptName
from eval.choice.items import ChoiceItem

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHOT_DELIMITER = "\n\n"
DELIMITER = " "


class Prompt(NamedTuple):
    """A text with {question}, {passage} and {options}, and what is compared after it."""

    text: str
    compares: Literal["texts", "letters"] = "texts"


# Of lm-evaluation-harness 0.4.13 where a task of that name is there: tests compare with its own formatting.
PROMPTS: dict[PromptName, Prompt] = {
    "question": Prompt("Question: {question}\nAnswer:"),
    "letters": Prompt("Question: {question}\n{options}\nAnswer:", "letters"),
    "continuation": Prompt("{question}"),
    "piqa": Prompt("Question: {question}\nAnswer:"),
    "arc_easy": Prompt("Question: {question}\nAnswer:"),
    "commonsense_qa": Prompt("Question: {question}\n{options}\nAnswer:", "letters"),
    "openbookqa": Prompt("{question}"),
    "boolq": Prompt("{passage}\nQuestion: {question}?\nAnswer:"),
    "bbq": Prompt("{passage}\n\nQ: {question}\nA:"),
    "sentiment": Prompt("{question}\nThe sentiment of the sentence above is:"),
}


class Asked(NamedTuple):
    """An item as the model meets it: rendered context, and the texts whose likelihoods are compared after it."""

    item: ChoiceItem
    context: str
    delimiter: str
    compared: tuple[str, ...]

    @property
    def continuations(self) -> list[str]:
        """What follows the context: the delimiter belongs to it."""
        return [self.delimiter + text for text in self.compared]


def prompt_of(config: ChoiceConfig) -> Prompt:
    """The task's prompt, or the user's own: letters are compared where it shows the options."""
    named = PROMPTS[config.task]
    if config.method == "generation" and config.prompt is None and named.compares == "texts":
        return PROMPTS["letters"]._replace(text=_with_passage(named.text))
    if config.prompt is None:
        return named
    shows_letters = "{options}" in config.prompt or config.method == "generation"
    return Prompt(config.prompt, "letters" if shows_letters else "texts")


def _with_passage(text: str) -> str:
    """The lettered prompt, with the passage first where the task has one."""
    return ("{passage}\n" if "{passage}" in text else "") + PROMPTS["letters"].text


def ask(item: ChoiceItem, shots: Sequence[ChoiceItem], config: ChoiceConfig, tokenizer: Any) -> Asked:
    """Render one item after its solved examples."""
    prompt = prompt_of(config)
    if config.template == "chat":
        return Asked(item, _chat(item, shots, prompt, tokenizer), "", _compared(item, prompt))
    solved = [f"{_text(shot, prompt)}{DELIMITER}{_solution(shot, prompt)}{SHOT_DELIMITER}" for shot in shots]
    context = "".join(solved) + _text(item, prompt)
    return Asked(item, context, DELIMITER, _compared(item, prompt))


def shots_for(item: ChoiceItem, pool: Sequence[ChoiceItem], config: ChoiceConfig) -> list[ChoiceItem]:
    """The solved examples of one item: never the item itself, independent of the other items and of their order."""
    if not config.shots:
        return []
    others = [each for each in pool if (each.question, each.passage) != (item.question, item.passage)]
    if len(others) < config.shots:
        raise DataError(
            f"item {item.id}: shots={config.shots}, but there are {len(others)} other examples; "
            "lower shots or give more examples"
        )
    if config.shot_choice == "first":
        return others[: config.shots]
    return random.Random(f"{config.seed} {item.id}").sample(others, config.shots)


def letters_of(item: ChoiceItem) -> str:
    """One letter for each choice; DataError beyond 26."""
    if len(item.choices) > len(LETTERS):
        raise DataError(f"item {item.id}: {len(item.choices)} choices; lettered prompts allow {len(LETTERS)}")
    return LETTERS[: len(item.choices)]


def _text(item: ChoiceItem, prompt: Prompt) -> str:
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=False))
    return prompt.text.format(question=item.question, passage=item.passage, options=options)


def _compared(item: ChoiceItem, prompt: Prompt) -> tuple[str, ...]:
    return tuple(letters_of(item)) if prompt.compares == "letters" else item.choices


def _solution(item: ChoiceItem, prompt: Prompt) -> str:
    return _compared(item, prompt)[item.gold]


def _chat(item: ChoiceItem, shots: Sequence[ChoiceItem], prompt: Prompt, tokenizer: Any) -> str:
    """Examples as earlier turns; the text ends where the answer begins."""
    from data_prep.tokens.template import render_prompt

    turns = []
    for each in (*shots, item):
        turns.append({"role": "user", "content": _text(each, prompt)})
        turns.append({"role": "assistant", "content": _solution(each, prompt)})
    return render_prompt(tokenizer, {"id": item.id, "messages": turns}, "chat")
