"""Reasoning at test time: steps before the answer, votes over several answers, and a budget for thinking."""
