"""Small byte-level tokenizers with the chat templates of well-known models, built on the spot, and rows for them."""

from functools import cache

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.\n\nWhat is the capital of France? Paris, of course.",
    "system user assistant model tool You are a helpful assistant.\n\n\n   Answer: yes  no    maybe    never    ever.",
]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + CHATML
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Mistral puts the system prompt into the last user turn, so it moves as the conversation grows.
MISTRAL = (
    "{{ bos_token }}{% set sys = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% set turns = messages[1:] if sys else messages %}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' }}{% if sys and (loop.last or loop.index0 == turns|length - 2) %}{{ sys + '\n\n' }}{% endif %}"
    "{{ m['content'] + '[/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}"
    "{% set role = m['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Like Qwen3: only the last answer keeps its thinking block.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The generation prompt announces another header than the one that is written.
BROKEN_PROMPT = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>bot\n' }}")
NO_PROMPT = CHATML.partition("{% if add_generation_prompt")[0]
NO_END = CHATML.replace("'<|im_end|>' + ", "")
DROPS_THOUGHTS = CHATML.replace("m['content'] +", "m['content'].split('</think>')[-1] +")

# name: template, beginning, end of sequence, end of turn, further special tokens
FAMILIES: dict[str, tuple[str, str | None, str, str, list[str]]] = {
    "chatml": (CHATML, None, "<|im_end|>", "<|im_end|>", ["<|im_start|>"]),
    "qwen": (QWEN, None, "<|endoftext|>", "<|im_end|>", ["<|im_start|>"]),
    "llama2": (LLAMA2, "<s>", "</s>", "</s>", []),
    "mistral": (MISTRAL, "<s>", "</s>", "</s>", ["[INST]", "[/INST]"]),
    "llama3": (LLAMA3, "<|begin|>", "<|eot_id|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "zephyr": (ZEPHYR, "<s>", "</s>", "</s>", []),
    "gemma": (GEMMA, "<bos>", "<eos>", "<end_of_turn>", ["<start_of_turn>"]),
    "phi3": (PHI3, "<s>", "<|endoftext|>", "<|end|>", ["<|system|>", "<|user|>", "<|assistant|>"]),
}
TRIMMING = {"llama2", "llama3", "gemma"}


@cache
def build(
    template: str | None, bos: str | None, eos: str, special: tuple[str, ...], trim: bool = False, nfc: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; `bos` is added by its own policy, `trim` trims offsets as Llama 3's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if nfc:
        backend.normalizer = normalizers.NFC()
    tokens = list(dict.fromkeys([*([bos] if bos else []), eos, *special]))
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    steps: list[object] = [processors.ByteLevel(trim_offsets=True)] if trim else []
    if bos:
        single = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
        steps.append(single)
    if steps:
        backend.post_processor = processors.Sequence(steps)  # type: ignore[arg-type]
    # The padding token is the end token, as in many checkpoints: masks must not depend on ids.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos, additional_special_tokens=tokens
    )
    tokenizer.chat_template = template
    return tokenizer


def family(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model family; Llama 3's trims its offsets."""
    template, bos, eos, end, special = FAMILIES[name]
    return build(template, bos, eos, (end, *special), trim=name == "llama3")


def chatml(template: str, **options: bool) -> PreTrainedTokenizerFast:
    """A tokenizer with ChatML's special tokens and any template."""
    return build(template, None, "<|im_end|>", ("<|im_start|>",), **options)


CHAT = {
    "id": "c-1",
    "source": "s",
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello there"},
        {"role": "user", "content": "Capital of France?"},
        {"role": "assistant", "content": "Paris"},
    ],
}
PAIR = {"id": "p-1", "source": "s", "prompt": "Capital of France?", "completion": "Paris"}

# Any text but control characters, lone surrogates and what could be read as a special token.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<|>[]{}"), max_size=12) | st.sampled_from(
    ["", " ", "\n", "  padded\n\n", "日本語の文", "שלום עולם", "👩‍👩‍👧 e\u0301", "line\u2028end\x1c", "yes\n"]
)


@st.composite
def conversations(draw: st.DrawFn, system: bool = True) -> dict:
    """A chat of one to three exchanges, perhaps behind a system turn."""
    messages = []
    if system and draw(st.booleans()):
        messages.append({"role": "system", "content": draw(TEXTS)})
    for _ in range(draw(st.integers(1, 3))):
        messages += [{"role": "user", "content": draw(TEXTS)}, {"role": "assistant", "content": draw(TEXTS)}]
    return {"id": "r-1", "source": "s", "messages": messages}
