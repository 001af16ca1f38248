"""`train inspect`: summarise a data set, and list what cannot be used."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from train.cli.arguments import Commands, add_dataset_options
from train.text import printable

if TYPE_CHECKING:
    from train.datasets import Clip, Dataset, RecordingOrder, Split
    from train.datasets.survey import Surveyed

_NAMED = 10  # files listed; the others are counted
_SIMILAR = 1.5  # ratio of distances; random groups of recordings rarely reach it


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    inspect = commands.add_parser(
        "inspect",
        help="summarise a data set and list what cannot be used",
        description="Read every file of DATASET. Exit status 1 if it cannot be trained on, by the checks of `train fit` "
        "(with the lengths of the recipe default).",
    )
    inspect.add_argument("dataset", type=Path, metavar="DATASET", help="folder of recordings")
    add_dataset_options(inspect, split="count the clips in these lists")
    inspect.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from monitor.errors import SourceError
    from train.datasets import LAYOUTS, load_split, read_dataset, recording_order
    from train.datasets.survey import survey

    dataset = read_dataset(arguments.dataset, layout=arguments.layout)
    split = None if arguments.split is None else load_split(arguments.split, dataset)
    drawn = [clip for clip in dataset.clips if _may_be_drawn(clip)]
    order = recording_order(dataset, drawn) if drawn else None
    surveyed = survey(dataset.clips, channel=arguments.channel)
    print(f"{printable(str(dataset.root))}: {dataset.layout} ({LAYOUTS[dataset.layout].files})\n")
    print(_table(surveyed) + "\n")
    print("\n".join(f"{name:<12}{text}" for name, text in _facts(dataset, surveyed)))
    if order is not None:
        print("\n".join(f"{name:<12}{text}" for name, text in _order(dataset, order, surveyed)))
    if split is not None:
        lists = f"{len(split.train)} train, {len(split.held_out)} held out, {len(split.test)} test"
        print(f"{'split':<12}{lists}" + (f"; cut in time at {split.cut:.0%}" if split.cut is not None else ""))
    problems = _problems(dataset, surveyed, split) or _too_short(dataset, surveyed, arguments.split, arguments.channel)
    if problems:
        raise SourceError(f"{dataset.root}: cannot be trained on as it is: {'; '.join(problems)}")
    print(f"\nnext: train fit {dataset.root} --recipe default --out models/NAME")


def _table(surveyed: Sequence["Surveyed"]) -> str:
    """A row for each machine, id, section, domain and part; empty columns are left out."""
    titles = ["machine", "id", "section", "domain", "part", "normal", "hours", "anomaly", "hours"]
    groups: dict[tuple[str, ...], list[Surveyed]] = defaultdict(list)
    for one in surveyed:
        groups[tuple(str(getattr(one.clip, name) or "") for name in titles[:5])].append(one)
    rows = [titles]
    for key, members in [*sorted(groups.items()), (("total", "", "", "", ""), list(surveyed))]:
        labels = [[one for one in members if one.clip.label == label] for label in ("normal", "anomaly")]
        numbers = [(str(len(some)), f"{sum(one.duration_s for one in some) / 3600:.3f}") for some in labels]
        rows.append([*map(printable, key), *numbers[0], *numbers[1]])
    shown = [i for i in range(len(titles)) if i in (0, *range(5, 9)) or any(row[i] for row in rows[1:])]
    widths = {i: max(len(row[i]) for row in rows) for i in shown}
    lines = ("  ".join(row[i].ljust(widths[i]) if i < 5 else row[i].rjust(widths[i]) for i in shown) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _facts(dataset: "Dataset", surveyed: Sequence["Surveyed"]) -> Iterable[tuple[str, str]]:
    good = [one for one in surveyed if one.error is None]
    rates = Counter(one.rate_hz for one in good)
    mixed = "; mixed, all are resampled to the recipe's rate" if len(rates) > 1 else ""
    yield "rates", _counts(rates, "Hz") + mixed
    if too_little := _too_little(rates):
        yield "too little", too_little
    yield "channels", _counts(Counter(one.n_channels for one in good), "in a file")
    yield "recordings", f"{len({one.clip.recording for one in surveyed})}; files of one recording are never split"
    if good:
        yield "length", _range([one.duration_s for one in good], "s")
        yield "level", _range([one.rms_dbfs for one in good], "dBFS (RMS)")
    clipped = ((one, one.refused_s.get("clipped", 0.0)) for one in good)
    yield "clipped", _names(f"{dataset.relative(one.clip)} ({clipped_s:.0f} s)" for one, clipped_s in clipped if clipped_s)
    yield "silent", _names(dataset.relative(one.clip) for one in good if one.silent)
    yield "left out", _refused(good)
    yield "duplicates", _names(_duplicates(dataset, good))
    yield "unreadable", _names(one.error for one in surveyed if one.error is not None)
    yield "misplaced", _names(f"{dataset.relative(clip)} (anomaly in the training part)" for clip in _misplaced(surveyed))
    if dataset.skipped:
        yield "skipped", _names(f"{path.relative_to(dataset.root).as_posix()} ({why})" for path, why in dataset.skipped.items())


def _order(dataset: "Dataset", order: "RecordingOrder", surveyed: Sequence["Surveyed"]) -> Iterable[tuple[str, str]]:
    """The source of the recordings' order, and the distances between sessions."""
    from train.datasets import one_session_note

    first, last = (printable(order.recordings[at]) for at in (0, -1))
    yield "order", f"by {order.source}: {first}" + (f" first, {last} last" if len(order.recordings) > 1 else "")
    note = one_session_note(order)
    names = [f"{name} ({_recordings(len(one))})" for name, one in zip(order.session_names, order.sessions, strict=True)]
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


def _too_little(rates: Counter[int]) -> str:
    """The shipped recipes with bands above half the lowest rate."""
    from monitor.scoring.bandwidth import empty_bands
    from train.recipes.recipe import RECIPES, load_recipe

    lowest = min(rates, default=0)
    recipes = {path.stem: load_recipe(str(path)) for path in sorted(RECIPES.glob("*.yaml"))} if lowest else {}
    specs = {name: recipe.front_end for name, recipe in recipes.items() if recipe.rate == "fixed"}
    affected = [f"{name} ({n} of {spec.n_bands} bands)" for name, spec in specs.items() if (n := empty_bands(lowest, spec))]
    return f"{lowest} Hz contains nothing above {lowest / 2000:g} kHz; too little for {', '.join(affected)}" if affected else ""


def _refused(surveyed: Sequence["Surveyed"]) -> str:
    from train.features.frames import seconds_by_reason

    total: dict[str, float] = defaultdict(float)
    for one in surveyed:
        for reason, seconds in one.refused_s.items():
            total[reason] += seconds
    return f"{seconds_by_reason(total)} (left out of training, because the device would not score them)" if total else "none"


def _problems(dataset: "Dataset", surveyed: Sequence["Surveyed"], split: "Split | None") -> list[str]:
    """Problems that prevent training, including those for which `train fit` refuses the files it may draw."""
    from train.fitting.preflight import problems_of

    listed = None if split is None else {clip.path for clip in (*split.train, *split.held_out)}
    drawn = [one for one in surveyed if _may_be_drawn(one.clip) and (listed is None or one.clip.path in listed)]
    usable = [one for one in drawn if one.error is None]
    n_unreadable, misplaced = sum(one.error is not None for one in surveyed), _misplaced(surveyed)
    unfit = problems_of(usable)
    more = f" (and {len(unfit) - 1} more)" if len(unfit) > 1 else ""
    return [
        *([] if usable else ["there is no normal sound to train on"]),
        *([f"{_files(n_unreadable)} cannot be read"] if n_unreadable else []),
        *(f"{problem}{more}" for problem in unfit[:1]),
        *([f"there are anomalies in the training part ({_files(len(misplaced))})"] if misplaced else []),
    ]


def _may_be_drawn(clip: "Clip") -> bool:
    return clip.label == "normal" and clip.part != "test"


def _too_short(dataset: "Dataset", surveyed: Sequence["Surveyed"], lists: Path | None, channel: int | None) -> list[str]:
    """Problems with lengths for which `train fit` with the recipe `default` would refuse readable recordings."""
    from monitor.errors import SourceError
    from train.datasets.bandwidth import check_some_bands
    from train.fitting.preflight import check_lengths, recipe_split
    from train.recipes.recipe import load_recipe

    recipe = load_recipe("default")
    try:
        split = recipe_split(dataset, recipe, seed=recipe.training.seed, lists=lists)
        taken = {clip.path for clip in (*split.train, *split.held_out)}
        check_some_bands([one.rate_hz for one in surveyed if one.clip.path in taken], recipe.front_end)
        check_lengths(split, surveyed, recipe, channel=channel)
    except SourceError as error:
        return [f"with the recipe default, {error}"]
    return []


def _misplaced(surveyed: Sequence["Surveyed"]) -> list["Clip"]:
    return [one.clip for one in surveyed if one.clip.label == "anomaly" and one.clip.part == "train"]


def _duplicates(dataset: "Dataset", surveyed: Sequence["Surveyed"]) -> Iterable[str]:
    same: dict[str, list[str]] = defaultdict(list)
    for one in surveyed:
        same[one.sha256].append(dataset.relative(one.clip))
    return (" = ".join(names) for names in same.values() if len(names) > 1)


def _range(values: Sequence[float], unit: str) -> str:
    return f"min {min(values):.1f}, median {median(values):.1f}, max {max(values):.1f} {unit}"


def _counts(counter: Counter[int], unit: str) -> str:
    return ", ".join(f"{value} {unit} ({_files(n)})" for value, n in sorted(counter.items())) or "none"


def _files(n: int) -> str:
    return f"{n} file{'' if n == 1 else 's'}"


def _recordings(n: int) -> str:
    return f"{n} recording{'' if n == 1 else 's'}"


def _names(names: Iterable[str]) -> str:
    """The first few names, one per line."""
    names = [printable(name) for name in names]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return f"\n{'':<12}".join([*names[:_NAMED], *more]) or "none"
