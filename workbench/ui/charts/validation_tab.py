"""What the panel's validation tab shows: the last validation of the session, or what is missing for one."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from workbench import figures
from workbench.session import Session
from workbench.ui.charts.figures import spec

if TYPE_CHECKING:
    from workbench.live.validation.comparison import Comparison

PIXELS = 48
"""Of a sample's longer side, at most: eight pairs of them are a few ten thousand bytes."""


def lacking(session: Session) -> str:
    """What stands in the way of running a plan, and the way out; empty if nothing does."""
    if session.validator is not None:
        return ""
    if find_spec("torch") is None:
        return (
            "A validation runs the plan in a PyTorch model, and PyTorch is not installed here: "
            "pip install 'arrowquant-workbench[torch]', and restart the kernel."
        )
    return (
        "A validation runs the plan in a model, and this session has none. Give it one in a cell: "
        "wb.live.attach(s, model, run), where run(number) generates with the model and returns the final output."
    )


def shown(session: Session) -> dict[str, Any]:
    """The tab's content.

    Returns
    -------
    dict
        ``lacking``, see above. Where there is a validation also ``stale``: what is different since; ``facts``: pairs
        of a name and a text; ``can_learn``: whether it was not learnt yet; and the figures ``scatter``, ``groups``,
        ``growth`` and, if it has images, ``samples``.
    """
    found: dict[str, Any] = {"lacking": lacking(session)}
    if session.validation is None:
        return found
    comparison = cast("Comparison", session.validation)
    factors, learnt = comparison.factors, session.learnt
    can_learn = bool(factors) and any(learnt.get(name) != factor for name, factor in factors.items())
    stale = [] if comparison.plan_digest == session.plan.digest else ["the plan is another since"]
    if not can_learn and factors:
        stale.append("the session has learnt from it")
    return found | {"stale": ", ".join(stale), "can_learn": can_learn} | _drawn(comparison)


@lru_cache(maxsize=2)
def _drawn(comparison: Comparison) -> dict[str, Any]:
    """What of a validation does not change with the plan."""
    return {
        "facts": facts(comparison),
        "scatter": spec(figures.predicted_against_measured(comparison)),
        "groups": spec(figures.error_by_group(comparison)),
        "growth": spec(figures.error_growth(comparison)),
        **({"samples": spec(figures.samples(comparison, side=PIXELS))} if comparison.has_images else {}),
    }


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """The figures of a validation as pairs of a name and a text."""
    found = [
        ("final error, measured", f"{comparison.error:.3g} over {len(comparison.errors)} runs"),
        ("predicted", f"{comparison.predicted_error:.3g}"),
        ("measured / predicted", f"{comparison.ratio:.2f}"),
        ("rank correlation", f"{comparison.rank_correlation:.3f} (layers' own outputs)"),
    ]
    if comparison.alone:
        found.append(("one layer at a time", f"{comparison.rank_correlation_alone:.3f} (final output)"))
    if comparison.activations != "none":
        found.append(("activations", comparison.activations))
    found += [(name, f"{own:.4g} → {plan:.4g}") for name, (own, plan) in comparison.metrics.items()]
    return found
