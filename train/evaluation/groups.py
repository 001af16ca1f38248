"""Metrics per machine, id, section and domain, and DCASE's harmonic mean over them.

As in DCASE Task 2 since 2022: a domain's AUC sets its normal clips against all anomalous clips of the section (or id), and
the partial AUC is taken over all of a section's (or id's) clips. (nttcslab/dcase2023_task2_evaluator)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from train.evaluation.evaluate import ClipScore, labels_and_scores
from train.evaluation.metrics import Interval, auc, bootstrap, harmonic_mean, partial_auc, verdicts


@dataclass(frozen=True, kw_only=True)
class Group:
    """The clips of one machine, id, section or domain."""

    kind: str
    name: str
    n_normal: int
    n_anomaly: int
    false_positives: int
    false_negatives: int
    auc: float | None
    auc_interval: Interval | None
    pauc: float | None


@dataclass(frozen=True)
class Groups:
    """All groups, and the harmonic mean of the areas of the smallest ones; None where there are no anomalies or one group."""

    groups: tuple[Group, ...]
    harmonic_mean: float | None


def group_metrics(clips: Sequence[ClipScore], *, threshold: float, n_resamples: int) -> Groups:
    """Metrics of every group that the data set names."""
    found = []
    for kind, key in _KINDS.items():
        names = sorted({name for one in clips if (name := key(one)) is not None})
        found += [
            _group(kind, name, [one for one in clips if key(one) == name], threshold=threshold, n_resamples=n_resamples)
            for name in names
        ]
    for name in sorted({name for one in clips if (name := _in_domain(one)) is not None}):
        domain = [one for one in clips if _in_domain(one) == name]
        whole = [one for one in clips if _individual(one) == _individual(domain[0])]
        against = [one for one in domain if one.clip.label == "normal"] + [one for one in whole if one.clip.label == "anomaly"]
        found.append(_group("domain", name, against, threshold=threshold, n_resamples=n_resamples))
    return Groups(tuple(found), _dcase(found))


def _group(kind: str, name: str, clips: Sequence[ClipScore], *, threshold: float, n_resamples: int) -> Group:
    anomaly, scores = labels_and_scores(clips)
    at = verdicts(anomaly, scores, threshold=threshold)
    return Group(
        kind=kind,
        name=name,
        n_normal=at.n_normal,
        n_anomaly=at.n_anomaly,
        false_positives=at.false_positives,
        false_negatives=at.false_negatives,
        auc=auc(anomaly, scores),
        auc_interval=bootstrap(auc, anomaly, scores, n_resamples=n_resamples),
        pauc=partial_auc(anomaly, scores),
    )


def _dcase(groups: Sequence[Group]) -> float | None:
    """Over the AUC of each domain (else of each section and id, else machine) and the partial AUC of each section and id."""
    kinds = {group.kind for group in groups}
    whole = {"section", "id"} & kinds or {"machine"}
    of_auc = {"domain"} if "domain" in kinds else whole
    areas = [group.auc for group in groups if group.kind in of_auc] + [group.pauc for group in groups if group.kind in whole]
    return harmonic_mean([area for area in areas if area is not None])


def _named(*parts: str | None) -> str | None:
    return None if parts[-1] is None else " / ".join(part for part in parts if part is not None)


def _individual(one: ClipScore) -> str | None:
    return _named(one.clip.machine, one.clip.section or one.clip.id or "all")


def _in_domain(one: ClipScore) -> str | None:
    return _named(_individual(one), one.clip.domain)


_KINDS: dict[str, Callable[[ClipScore], str | None]] = {
    "machine": lambda one: one.clip.machine,
    "id": lambda one: _named(one.clip.machine, one.clip.id),
    "section": lambda one: _named(one.clip.machine, one.clip.section),
}
