"""`train inspect`: summarise a data set, and list what cannot be used."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from monitor.errors import printable
from monitor.learning.report_text import count, duration
from train.cli.arguments import Commands, add_dataset_options, dataset_of
from train.cli.words import ENOUGH, amount, bundle_for

if TYPE_CHECKING:
    from train.datasets import Clip, Dataset, RecordingOrder, Split
    from train.datasets.survey import Surveyed
    from train.recipes.recipe import Recipe

_NAMED = 10  # files listed; the others are counted
_SIMILAR = 1.5  # ratio of distances; random groups of recordings rarely reach it


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    inspect = commands.add_parser(
        "inspect",
        help="summarise a data set and list what cannot be used",
        description="Read every file of DATASET. Exit status 1 if `train fit` would refuse to train on it.",
    )
    inspect.add_argument("dataset", type=Path, metavar="DATASET", help="folder of recordings")
    inspect.add_argument("--recipe", default="default", metavar="NAME", help="the recipe to train later (default: default)")
    add_dataset_options(inspect, split="count the clips in these lists")
    inspect.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from monitor.errors import SourceError
    from train.datasets import load_split, recording_order
    from train.datasets.survey import survey
    from train.fitting.rate import at_own_rate
    from train.recipes.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    dataset = dataset_of(arguments.dataset, arguments)
    split = None if arguments.split is None else load_split(arguments.split, dataset)
    drawn = [clip for clip in dataset.clips if _may_be_drawn(clip)]
    order = recording_order(dataset, drawn) if drawn else None
    surveyed = survey(dataset.clips, channel=arguments.channel)
    if any(one.error is None and _may_be_drawn(one.clip) for one in surveyed):
        recipe = at_own_rate(recipe, dataset, channel=arguments.channel)
    print(f"{printable(str(dataset.root))}: layout {dataset.layout}\n")
    print(_table(surveyed) + "\n")
    print("\n".join(f"{name:<12}{text}" for name, text in _facts(dataset, surveyed)))
    faults = dict(_faults(dataset, surveyed, recipe))
    for name in (name for name, files in faults.items() if files):
        print(f"{name:<12}{_names(faults[name])}")
    if absent := [name for name, files in faults.items() if not files]:
        print(f"{'checked':<12}no file is {', '.join(absent[:-1])}{' or ' if absent[1:] else ''}{absent[-1]}")
    if order is not None:
        print("\n".join(f"{name:<12}{text}" for name, text in _order(dataset, order, surveyed)))
    if split is not None:
        lists = f"{len(split.train)} train, {len(split.held_out)} held out, {len(split.test)} test"
        print(f"{'split':<12}{lists}" + (f"; cut in time at {split.cut:.0%}" if split.cut is not None else ""))
    found = _usable(dataset, surveyed, recipe, arguments)
    problems = [*_problems(surveyed), *([found] if found and isinstance(found, str) else [])]
    if problems:
        raise SourceError(f"{dataset.root}: cannot be trained on as it is: {'; '.join(problems)}")
    if not isinstance(found, str):
        print(f"{'enough':<12}{_enough(found, surveyed, recipe)}")
    print(f"\nnext: train fit {dataset.root} --recipe {arguments.recipe} --out models/{bundle_for(dataset.root)}")


def _table(surveyed: Sequence["Surveyed"]) -> str:
    """A row for each machine, id, section, domain and part; empty columns are left out."""
    titles = ["machine", "id", "section", "domain", "part", "normal", "length", "anomaly", "length"]
    groups: dict[tuple[str, ...], list[Surveyed]] = defaultdict(list)
    for one in surveyed:
        groups[tuple(str(getattr(one.clip, name) or "") for name in titles[:5])].append(one)
    rows = [titles]
    for key, members in [*sorted(groups.items()), (("total", "", "", "", ""), list(surveyed))]:
        labels = [[one for one in members if one.clip.label == label] for label in ("normal", "anomaly")]
        numbers = [(str(len(some)), duration(sum(one.duration_s for one in some) / 3600, 2) if some else "-") for some in labels]
        rows.append([*map(printable, key), *numbers[0], *numbers[1]])
    shown = [i for i in range(len(titles)) if i in (0, *range(5, 9)) or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in shown}
    lines = ("  ".join(row[i].ljust(widths[i]) if i < 5 else row[i].rjust(widths[i]) for i in shown) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _facts(dataset: "Dataset", surveyed: Sequence["Surveyed"]) -> Iterable[tuple[str, str]]:
    from train.fitting.preflight import fitting_recipes

    good = [one for one in surveyed if one.error is None]
    rates = Counter(one.rate_hz for one in good)
    mixed = "; mixed, all are resampled to the recipe's rate" if len(rates) > 1 else ""
    yield "rates", _counts(rates, "Hz") + mixed
    if rates:
        yield "recipes", f"for {min(rates)} Hz: {', '.join(fitting_recipes(min(rates))) or 'none'}"
    yield "channels", _counts(Counter(one.n_channels for one in good), "in a file")
    yield "recordings", f"{len({one.clip.recording for one in surveyed})}; files of one recording are never split"
    if good:
        yield "length", _range([one.duration_s for one in good], "s")
        yield "level", _range([one.rms_dbfs for one in good], "dBFS (RMS)")
    yield "left out", _refused(good)
    if dataset.skipped:
        yield "skipped", _names(f"{path.relative_to(dataset.root).as_posix()} ({why})" for path, why in dataset.skipped.items())


def _faults(dataset: "Dataset", surveyed: Sequence["Surveyed"], recipe: "Recipe") -> Iterable[tuple[str, list[str]]]:
    """Names of files by fault."""

    def named(some: Iterable[tuple["Surveyed", str]]) -> list[str]:
        return [f"{dataset.relative(one.clip)}{text and f' ({text})'}" for one, text in some]

    good = [one for one in surveyed if one.error is None]
    yield "unreadable", [one.error for one in surveyed if one.error is not None]
    yield "clipped", named((one, f"{s:.0f} s") for one in good if (s := one.refused_s.get("clipped", 0.0)))
    yield "over scale", named((one, f"peak {one.peak:.3g} of full scale") for one in good if one.peak > 1.0)
    yield "silent", named((one, "") for one in good if one.silent)
    yield "dead", named((one, f"channel {', '.join(map(str, one.dead_channels))}") for one in good if one.dead_channels)
    pairs = ((one, one.opposite_channels) for one in good if one.opposite_channels is not None)
    yield "inverted", named((one, f"channels {pair[0]} and {pair[1]} cancel each other: use --channel") for one, pair in pairs)
    yield "too short", named((one, f"{one.duration_s:.2f} s") for one in good if one.duration_s < recipe.shortest_s)
    yield "resampled", named((one, f"nothing above {one.edge_hz / 1000:.1f} kHz") for one in good if one.edge_hz is not None)
    yield "duplicate", list(_duplicates(dataset, good))
    yield "misplaced", named((one, "anomaly in the training part") for one in surveyed if _is_misplaced(one.clip))


def _order(dataset: "Dataset", order: "RecordingOrder", surveyed: Sequence["Surveyed"]) -> Iterable[tuple[str, str]]:
    """The source of the recordings' order, and the distances between sessions."""
    from train.datasets import one_session_note

    first, last = (printable(order.recordings[at]) for at in (0, -1))
    yield "order", f"by {order.source}: {first}" + (f" first, {last} last" if len(order.recordings) > 1 else "")
    note = one_session_note(order)
    names = [f"{name} ({count(len(one), 'recording')})" for name, one in zip(order.session_names, order.sessions, strict=True)]
    yield (
        "sessions",
        f"1; {note}" if note else f"{len(names)}; {_session_text(dataset, order, surveyed)}\n{'':<12}{_names(names)}",
    )


def _session_text(dataset: "Dataset", order: "RecordingOrder", surveyed: Sequence["Surveyed"]) -> str:
    """The distances between sessions relative to those within, as text."""
    from train.datasets.sessions.session_distances import session_distances

    session_of = {name: number for number, session in enumerate(order.sessions) for name in session}
    drawn = [one for one in surveyed if one.levels_db and _may_be_drawn(one.clip) and one.clip.recording in session_of]
    if dataset.layout != "plain":  # the files of one recording are channels of the same sound
        drawn = list({one.clip.recording: one for one in reversed(drawn)}.values())
    found = (
        session_distances([one.levels_db for one in drawn], [session_of[one.clip.recording] for one in drawn]) if drawn else None
    )
    if found is None:
        return "each is a single file, so they cannot be compared"
    text = (
        f"sessions differ {found.ratio:.1f} x as much as recordings within one "
        f"({found.between_db:.1f} against {found.within_db:.1f} dB)"
    )
    if found.ratio < _SIMILAR:
        return f"{text}: they sound similar"
    unlike = printable(order.session_names[found.farthest])
    return f"{text}, {unlike} most: other days, loads or speeds may look like faults unless they are recorded"


def _refused(surveyed: Sequence["Surveyed"]) -> str:
    from train.features.frames import seconds_by_reason

    total: dict[str, float] = defaultdict(float)
    for one in surveyed:
        for reason, seconds in one.refused_s.items():
            total[reason] += seconds
    return f"{seconds_by_reason(total)} (left out of training, because the device would not score them)" if total else "none"


def _problems(surveyed: Sequence["Surveyed"]) -> list[str]:
    """Problems of the labels."""
    misplaced = [one for one in surveyed if _is_misplaced(one.clip)]
    usable = any(one.error is None and _may_be_drawn(one.clip) for one in surveyed)
    return [
        *([] if usable else ["there is no normal sound to train on"]),
        *([f"there are anomalies in the training part ({count(len(misplaced), 'file')})"] if misplaced else []),
    ]


def _may_be_drawn(clip: "Clip") -> bool:
    return clip.label == "normal" and clip.part != "test"


def _usable(dataset: "Dataset", surveyed: Sequence["Surveyed"], recipe: "Recipe", arguments: argparse.Namespace) -> "Split | str":
    """What `train fit` would train on, or the error with which it would refuse the recordings; none where none are normal."""
    from monitor.errors import SourceError
    from train.fitting.preflight import recipe_split, usable_split

    if not any(_may_be_drawn(clip) for clip in dataset.clips):
        return ""
    try:
        split = recipe_split(dataset, recipe, seed=recipe.training.seed, lists=arguments.split)
        return usable_split(split, surveyed, recipe, channel=arguments.channel)
    except SourceError as error:
        return f"with the recipe {arguments.recipe}, {error}"


def _enough(split: "Split", surveyed: Sequence["Surveyed"], recipe: "Recipe") -> str:
    """Whether the recordings to train on are enough."""
    from monitor.learning.thresholds import ENOUGH_RECORDINGS

    by_path = {one.clip.path: one.duration_s for one in surveyed}
    seconds = [by_path[clip.path] for clip in split.train]
    n_segments = sum(max(1, int(one / (recipe.segment_ticks * recipe.tick_s))) for one in seconds)
    n_test = sum(clip.label == "normal" for clip in split.test)
    kept = f"; {n_test} more to test with" if n_test else ""
    learned = f"{amount(len(seconds), sum(seconds) / 3600)} to learn from{kept}"
    return f"yes: {learned}" if n_segments >= ENOUGH_RECORDINGS else f"no: {learned}; record {ENOUGH}"


def _is_misplaced(clip: "Clip") -> bool:
    return clip.label == "anomaly" and clip.part == "train"


def _duplicates(dataset: "Dataset", surveyed: Sequence["Surveyed"]) -> Iterable[str]:
    same: dict[str, list[str]] = defaultdict(list)
    for one in surveyed:
        same[one.sha256].append(dataset.relative(one.clip))
    return (" = ".join(names) for names in same.values() if len(names) > 1)


def _range(values: Sequence[float], unit: str) -> str:
    return f"min {min(values):.1f}, median {median(values):.1f}, max {max(values):.1f} {unit}"


def _counts(counter: Counter[int], unit: str) -> str:
    return ", ".join(f"{value} {unit} ({count(n, 'file')})" for value, n in sorted(counter.items())) or "none"


def _names(names: Iterable[str]) -> str:
    """The first few names, one per line."""
    names = [printable(name) for name in names]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return f"\n{'':<12}".join([*names[:_NAMED], *more]) or "none"
