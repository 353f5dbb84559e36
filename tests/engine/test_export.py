"""Exported models read back by others: transformers' GGUF reader, the gguf library, llama.cpp where it is installed."""

import json
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.progress import silent
from tests.conftest import Finished
from tests.engine.test_training import train

pytestmark = pytest.mark.end_to_end

TEXTS = ["Hello, world! 12345", "  two  spaces\n\nand\tlines", "naïve façade — ünïcödé 漢字 🙂", "it's <|im_end|> over"]


@pytest.fixture(scope="module")
def tuned(smoke: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The inputs of an export: the smoke run's model with a LoRA that moves its logits."""
    out = tmp_path_factory.mktemp("tuned")
    train(smoke, out, adapter={"kind": "lora", "r": 4}, learning_rate=1e-2, max_steps=3)
    return {"weights": smoke.artifact("model") / "model", "adapter_0": out / "adapter"}


def export(inputs: dict[str, Path], out: Path, **changes: object) -> dict[str, float]:
    from pipeline.stages.export.run import run

    config = {"dtype": "float32", "gguf": "F32", "gguf_tokenizer": None, "name": "sft", "trust_remote_code": False}
    out.mkdir(parents=True, exist_ok=True)
    return run(config | changes, inputs, out, silent)


def logits(model, ids: list[int]):
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].float()


def read_back(file: Path):
    """Model and tokenizer by transformers' own GGUF reader."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32), tokenizer


@pytest.mark.end_to_end
@pytest.mark.parametrize(("form", "bound"), [("F32", 1e-5), ("F16", 2e-3), ("Q8_0", 2e-2)])
def test_adapter_merged_safetensors_and_gguf_are_one_model(
    tuned: dict[str, Path], tmp_path: Path, form: str, bound: float
) -> None:
    """Logits within the rounding of the number format: half a unit in 11 bits for F16, in 7 of a block for Q8_0."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    metrics = export(tuned, tmp_path, gguf=form)
    assert metrics["logit_difference"] < 1e-5 and metrics["greedy_agreement"] == 1
    plain = AutoModelForCausalLM.from_pretrained(tuned["weights"])
    ids = AutoTokenizer.from_pretrained(tuned["weights"])("A quick test of 3 models.")["input_ids"]
    adapter = logits(PeftModel.from_pretrained(plain, tuned["adapter_0"]), ids)
    exported = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), ids)
    assert (adapter - exported).abs().max() < 1e-5
    model, _ = read_back(tmp_path / "model.gguf")
    assert (logits(model, ids) - adapter).norm() / adapter.norm() < bound


@pytest.mark.end_to_end
def test_the_gguf_file_says_what_the_model_is(tuned: dict[str, Path], tmp_path: Path) -> None:
    import gguf
    from transformers import AutoTokenizer

    export(tuned, tmp_path, gguf="F16")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    told = {name: field.contents() for name, field in reader.fields.items()}
    theirs = AutoTokenizer.from_pretrained(tuned["weights"])
    config = json.loads((tuned["weights"] / "config.json").read_text(encoding="utf-8"))
    assert told["general.architecture"] == "llama" and told["general.name"] == "sft" and told["general.file_type"] == 1
    assert told["llama.block_count"] == config["num_hidden_layers"]
    assert told["llama.attention.head_count_kv"] == config["num_key_value_heads"]
    assert told["llama.rope.freq_base"] == 10000.0 and told["llama.vocab_size"] == len(theirs)
    assert told["tokenizer.chat_template"] == theirs.chat_template
    assert told["tokenizer.ggml.pre"] == "gpt-2" and told["tokenizer.ggml.add_bos_token"] is False
    assert told["tokenizer.ggml.eos_token_id"] == theirs.eos_token_id
    assert told["tokenizer.ggml.tokens"] == theirs.convert_ids_to_tokens(range(len(theirs)))
    control = {n for n, kind in enumerate(told["tokenizer.ggml.token_type"]) if kind == gguf.TokenType.CONTROL}
    assert control == set(theirs.all_special_ids) | {theirs.convert_tokens_to_ids("<|im_start|>")}
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32" and kinds["blk.0.attn_q.weight"] == "F16"
    assert "output.weight" not in kinds  # tied
    _, tokenizer = read_back(tmp_path / "model.gguf")
    for text in TEXTS:
        assert tokenizer(text)["input_ids"] == theirs(text)["input_ids"]


LLAMA_3_1 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, dict] = {
    "llama": {"head_dim": 32},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "llama3 positions": {"head_dim": 32, "rope_parameters": LLAMA_3_1},
}


def random_model(family: str, tokenizer, folder: Path):
    """Untied, with grouped queries, heads of their own size, no bias or norm at 0 or 1."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama" if family.startswith("llama") else family,
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        **FAMILIES[family],
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.end_to_end
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_family_in_its_place(smoke: Finished, tmp_path: Path, family: str) -> None:
    import gguf
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    model = random_model(family, tokenizer, tmp_path / "source")
    export({"weights": tmp_path / "source"}, tmp_path / "out")
    if family == "llama3 positions":  # transformers reads no factors from GGUF; llama.cpp does, in a test below
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}
        factors = tensors["rope_freqs.weight"]
        assert factors[0] == pytest.approx(1.0) and factors[-1] == pytest.approx(8.0) and len(factors) == 16
        return
    ids = tokenizer("Every tensor in its place, please.")["input_ids"]
    back, _ = read_back(tmp_path / "out" / "model.gguf")
    assert (logits(back, ids) - logits(model, ids)).abs().max() < 1e-4


def llama_cpp(file: Path):
    """llama.cpp's server in this process, as a function: prompt → count of its tokens, then candidates."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.warmup = 256, False
    server = xllamacpp.Server(params)

    def ask(text: str) -> tuple[int, list[dict]]:
        asked = {"prompt": text, "max_tokens": 4, "temperature": 0.0, "logprobs": 5}
        answer = server.handle_completions(asked)
        return answer["usage"]["prompt_tokens"], answer["choices"][0]["logprobs"]["content"]

    return ask


@pytest.mark.slow
@pytest.mark.parametrize(("form", "bound"), [("F32", 1e-3), ("Q8_0", 0.05)])
def test_llama_cpp_tokenises_and_answers_alike(tuned: dict[str, Path], tmp_path: Path, form: str, bound: float) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export(tuned, tmp_path, gguf=form)
    ask = llama_cpp(tmp_path / "model.gguf")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        count, told = ask(text)
        assert count == len(ids)
        for step in told:
            expected = logits(model, ids)[-1].log_softmax(-1)
            for candidate in step["top_logprobs"]:
                assert candidate["logprob"] == pytest.approx(float(expected[candidate["id"]]), abs=bound)
            if form == "F32":
                assert step["id"] == int(expected.argmax())
            ids = [*ids, step["id"]]


@pytest.mark.slow
def test_llama_cpp_scales_rotary_positions_as_llama_3_1(smoke: Finished, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    model = random_model("llama3 positions", tokenizer, tmp_path / "source")
    export({"weights": tmp_path / "source"}, tmp_path / "out")
    text = " ".join(TEXTS[0] for _ in range(12))
    _, told = llama_cpp(tmp_path / "out" / "model.gguf")(text)
    expected = logits(model, tokenizer(text)["input_ids"])[-1].log_softmax(-1)
    for candidate in told[0]["top_logprobs"]:
        assert candidate["logprob"] == pytest.approx(float(expected[candidate["id"]]), abs=1e-3)


CHATS = [
    [{"role": "user", "content": "Hi {{ there }}"}],
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ],
]
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
UPSIDE_DOWN = "{% for m in messages | reverse %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize("template", [None, CHATML, HEADERS, ZEPHYR], ids=["own", "chatml", "headers", "zephyr"])
def test_the_modelfile_writes_what_the_chat_template_writes(smoke: Finished, template: str | None) -> None:
    from transformers import AutoTokenizer

    from pipeline.stages.export.modelfile import modelfile, pieces_of, written

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    tokenizer.chat_template = template or tokenizer.chat_template
    pieces = pieces_of(tokenizer)
    assert pieces is not None
    for chat in CHATS:
        expected = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert written(pieces, chat) == expected
    text = modelfile(tokenizer, "model.gguf")
    assert text.startswith('FROM ./model.gguf\nTEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}')
    assert ('SYSTEM """You help."""' in text) == (template == CHATML)
    assert 'PARAMETER stop "<|im_end|>"' in text


def test_a_template_that_ollama_cannot_say_is_left_out(smoke: Finished) -> None:
    from transformers import AutoTokenizer

    from pipeline.stages.export.modelfile import modelfile

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    tokenizer.chat_template = UPSIDE_DOWN
    assert "TEMPLATE" not in modelfile(tokenizer, "model.gguf")
    assert "# The chat template cannot be said in Ollama's language" in modelfile(tokenizer, "model.gguf")


def test_what_gguf_cannot_hold_is_refused(smoke: Finished, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from pipeline.stages.export.gguf_tokens import add_tokenizer, split_name

    tokenizer = AutoTokenizer.from_pretrained(smoke.artifact("model") / "model")
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=512)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    with pytest.raises(DataError, match="export.gguf: model_type gpt2 is none of llama, mistral, qwen2, qwen3"):
        export({"weights": tmp_path / "gpt2"}, tmp_path / "out")
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(DataError, match="the tokenizer is WordLevel and not byte-level BPE"):
        add_tokenizer(None, words, 1, None)  # pyright: ignore[reportArgumentType]
    odd = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "ByteLevel"}]}}
    with pytest.raises(DataError, match="export.gguf_tokenizer: llama.cpp's name .* is not known here"):
        split_name(odd)
