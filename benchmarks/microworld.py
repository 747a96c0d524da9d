"""The microworld's chance levels, baselines and ceilings: ``python benchmarks/microworld.py``."""

from __future__ import annotations

from mtl.scoring import microworld as baselines
from mtl.tasks.microworld import TASKS


def main() -> None:
    """Print one line a task."""
    print(f"{'task':<20}{'words':>6}{'majority':>10}  {'baselines (test)':<52}contradictory inputs")
    for task in TASKS:
        match task:
            case "similarity":
                shown = (
                    f"bag of words {baselines.bag_of_words(task):.2f}, "
                    f"word overlap {baselines.overlap():.2f} (Pearson)"
                )
            case "question_answering":
                shown = f"commonest answer {baselines.guessed_answers():.2f} (exact match)"
            case "summarisation":
                shown = (
                    f"first {baselines.lead(sentence=0):.2f}, second {baselines.lead(sentence=1):.2f}, "
                    f"last sentence {baselines.lead(sentence=-1):.2f} (ROUGE-L)"
                )
            case "translation":
                shown = "0.00 (exact match of the commonest sentence)"
            case _:
                unit = "Matthews" if task == "acceptability" else "accuracy"
                shown = (
                    f"bag of words {baselines.bag_of_words(task):.2f}, "
                    f"with pairs of words {baselines.bag_of_words(task, ngrams=2):.2f} ({unit})"
                )
        print(
            f"{task:<20}{baselines.mean_words(task):>6.1f}{baselines.majority(task):>10.3f}  "
            f"{shown:<52}{baselines.contradictions(task)}"
        )


if __name__ == "__main__":
    main()
