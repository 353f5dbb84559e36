"""What the metrics are called, which way is better, and which one speaks for a task."""

LABELS = {
    "bits_per_byte": "bits per byte",
    "byte_perplexity": "byte perplexity",
    "word_perplexity": "word perplexity",
    "token_perplexity": "token perplexity",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bleu": "BLEU",
    "chrf": "chrF",
    "accuracy": "accuracy",
    "accuracy_normalised": "length-normalised accuracy",
    "exact_match": "exact match",
    "f1": "F1",
    "macro_f1": "macro-F1",
    "accuracy_bytes": "byte-normalised accuracy",
    "perplexity": "perplexity of the word",
    "stereotype_share": "share of stereotypes preferred",
    "win_rate": "win rate",
    "length_controlled_win_rate": "length-controlled win rate",
    "order_consistency": "order consistency",
    "parse_failures": "parse failures",
}
_LOWER_IS_BETTER = {"bits_per_byte", "parse_failures", "loss", "nll", "toxicity", "toxic_share"}
_SPEAKS_FOR = (
    "bits_per_byte",
    "rougeL",
    "bleu",
    "chrf",
    "accuracy",
    "length_controlled_win_rate",
    "win_rate",
    "exact_match",
    "f1",
)
_MEANINGS = {
    "bits_per_byte": "how many bits the model needs for each byte of the reference answers",
    "rougeL": "how much of the reference answer's wording the model's answer shares, in order",
    "bleu": "how many of the answer's word sequences stand in the reference, 0 to 100",
    "chrf": "how many of the answer's character sequences stand in the reference, 0 to 100",
    "accuracy": "the share of questions answered right",
    "exact_match": "the share of answers that are the reference word for word",
    "f1": "how many words answer and reference share",
    "win_rate": "how often the judge prefers the tuned model's answer",
    "length_controlled_win_rate": "how often the judge prefers the tuned model's answer, length taken out",
}


def meaning(metric: str) -> str:
    """What a metric measures, in a clause; empty for one that nobody explained."""
    return _MEANINGS.get(metric, "")


def label(metric: str) -> str:
    """The metric's usual name."""
    return LABELS.get(metric, metric.replace("_", " "))


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric is the better one."""
    return metric in _LOWER_IS_BETTER or metric.endswith(("perplexity", "_loss"))


def spokesman(metrics: list[str]) -> str | None:
    """The one metric that stands for its task on the first screen."""
    known = [metric for metric in _SPEAKS_FOR if metric in metrics]
    return (known or metrics or [None])[0]
