"""The model benchmark measures what it says; on a GPU, compiled models are compared too."""

import pytest
import torch

from tests.benchmarks.models import CASES, interval, kept, pair, ratios


def test_intervals_are_order_statistics() -> None:
    assert interval([float(n) for n in range(1, 16)]) == (8.0, 4.0, 12.0)
    assert interval([2.0, 1.0, 3.0])[0] == 2.0


def test_what_counts_as_kept() -> None:
    fast = {"training": (1.0, 0.9, 1.1), "decoding": (1.4, 1.3, 1.5), "memory": 1.01}
    assert kept("llama", fast) and not kept("fine_grained_loop", fast)
    assert not kept("llama", fast | {"memory": 1.03}) and not kept("llama", fast | {"training": (0.9, 0.8, 0.95)})


def test_both_sides_compute_the_same() -> None:
    models = pair("llama")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(*(model.eval()(input_ids=ids).logits for model in models.values()), atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", ["training", "decoding"])
@pytest.mark.parametrize("case", [case for case in CASES if not case.endswith("_loop")])
def test_as_fast_as_transformers_on_a_gpu(case: str, kind: str, compiled: bool) -> None:
    assert interval(ratios(case, kind, 15, "cuda", compiled))[2] >= 1
