"""`edgebench profile`: measure this machine, and write down what a node's work takes on it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

import edgebench
from edgebench.clock import now_s, sleep_s, utc_now
from edgebench.cpu import cpu_model
from edgebench.errors import EdgebenchError, ModelError
from edgebench.executors.host_meter import HostMeter
from edgebench.executors.power_meter import Meter, MeterReader, meter_of
from edgebench.experiments.places import check_file, check_folder
from edgebench.experiments.profiling import model_child
from edgebench.experiments.profiling.heat import hottest_c, sustained_of
from edgebench.experiments.profiling.kit import (
    BATCH,
    FORMATS,
    LEARNED_X,
    LEARNED_Y,
    QUICK_FORMATS,
    QUICK_SIZES,
    SIZES,
    STEP,
    WEIGHTS,
    Kit,
    KitModel,
    KitStep,
    Wanted,
)
from edgebench.experiments.profiling.messages import BESIDE_BYTES, VALUES, MessagesFound, measured_messages
from edgebench.experiments.profiling.model_child import (
    InferenceJob,
    Job,
    LearningJob,
    Patience,
    PictureJob,
    SustainedJob,
    Timed,
)
from edgebench.experiments.profiling.node_child import ModelInUse
from edgebench.experiments.profiling.summary import times_of
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.fabric.pictures import picture_size
from edgebench.fabric.records import Entry, HostUsage, Metered
from edgebench.inference.spec import TensorSpec
from edgebench.lab.facts import facts_of_this_machine, name_of_this_machine
from edgebench.results.rundir import write_atomically
from edgebench.results.tolerances import FOREIGN_SHARE
from edgebench.tasks import names, task_named
from edgebench.tasks.cache import cache_dir
from edgebench.tasks.task import Size
from edgebench.topology.fields import Name
from edgebench.topology.profile_files import kept_profile, written
from edgebench.topology.profiles import (
    HOST,
    Inference,
    Measured,
    PictureCost,
    Power,
    Profile,
    Sustained,
    TrainingCost,
)
from edgebench.topology.wording import choice_of, listed

QUALITIES = (50, 75, 95)
_TIMED_S, _QUICK_TIMED_S = 600.0, 60.0
"""For all distributions together."""
_MOST_EACH_S, _LEAST_EACH_S = 30.0, 0.5
_MOST, _LEAST, _QUICK_MOST = 1000, 8, 200
_MESSAGES, _QUICK_MESSAGES = 200, 40
_SUSTAINED_S, _QUICK_SUSTAINED_S = 60.0, 10.0
_IDLE_S = 5.0
_PATIENCE_S = 900.0
"""For each size of a batch, and the like."""
_MOST_TRAIN_BATCH = 4096
_MOST_MESSAGE_BYTES = 16 << 20
_LOOK_S = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """tasks: none for all built-in ones. sizes, formats: of their models; none for all, or with `quick` for light ones
    in float32. max_batch: of their batches no larger ones. train_batches: samples of training steps (none: 32).
    message_bytes: of messages, besides those up to 64 kB and as large as the largest sample of the tasks. models: the
    folder of the kit (None: in the cache). name: of the machine (None: its host name). out: where the profile goes;
    keep: where none is named, it is kept by its name. meter: of its power, `module:attribute` (None: RAPL where there
    is any). tell: progress."""

    tasks: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    formats: tuple[str, ...] = ()
    max_batch: int | None = None
    train_batches: tuple[int, ...] = ()
    message_bytes: tuple[int, ...] = ()
    quick: bool = False
    models: Path | None = None
    name: str | None = None
    out: Path | None = None
    keep: bool = False
    meter: str | None = None
    tell: Tell = lambda _: None


def profile_machine(options: ProfileOptions) -> Profile:
    """Measure this machine. Raises EdgebenchError for what the user has to mend first."""
    name = options.name or name_of_this_machine()
    check(options, name)
    choose("auto")  # before the minutes that making models takes
    measuring = _Measuring(options, meter_of(options.meter, options.tell))
    wanted, kit = wanted_of(options), kit_of(options)
    kit.complete(wanted, options.tell)
    for failure in kit.failures(wanted):
        options.tell(failure)
    models, steps = list(kit.models(wanted)), list(kit.steps(wanted))
    if not models:
        raise EdgebenchError(f"there is no model of {listed(list(wanted.tasks))} to measure with (see --models)")
    measuring.plan(models, steps)
    meter = HostMeter(lambda: (os.getpid(),))
    facts = facts_of_this_machine()
    inference = tuple(cost for model in models for cost in measuring.inference(model))
    if not inference:
        raise ModelError("none of the models runs on this machine; why, is told above")
    messages = measuring.messages(models, inference, options.message_bytes)
    pictures = tuple(cost for model in _one_a_task(models) for cost in measuring.pictures(model))
    training = tuple(cost for step in steps for cost in measuring.training(step))
    others = others_share(meter.sample(), options.tell)
    sustained, power = measuring.sustained(models, inference, facts.cores)
    profile = Profile(
        schema=1,
        name=name,
        origin=Measured(
            at=f"{utc_now():%Y-%m-%dT%H:%M:%SZ}",
            edgebench=edgebench.__version__,
            machine=facts.arch,
            cpu=cpu_model(),
            system=_system(),
            broker=messages.broker,
            others=others,
        ),
        cores=facts.cores,
        memory_mb=facts.memory_mb,
        inference=inference,
        training=training,
        messages=messages.costs,
        wake=messages.wake,
        pictures=pictures,
        power=power,
        sustained=sustained,
    )
    write(options, profile)
    return profile


def write(options: ProfileOptions, profile: Profile) -> None:
    """Write it down where that is asked for, and say where that is where nobody named the place."""
    if options.out is not None:
        options.out.write_bytes(written(profile))
    elif options.keep:
        kept = kept_profile(profile.name)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, written(profile))
        options.tell(f"kept as {kept}: 'profile: {profile.name}' in a topology emulates this machine")


def others_share(usage: HostUsage | None, tell: Tell) -> float | None:
    """Which share of the processor others took while this was measured; told where it is too much."""
    if usage is None or usage.foreign is None:
        return None
    share = round(min(1.0, usage.foreign + usage.stolen), 4)
    if share > FOREIGN_SHARE:
        tell(
            f"others took {share:.0%} of the processor meanwhile (at most {FOREIGN_SHARE:.0%}): free it, measure again"
        )
    return share


def kit_of(options: ProfileOptions) -> Kit:
    """The models to measure with."""
    return Kit(options.models or cache_dir() / f"profile-models-{edgebench.__version__}")


def wanted_of(options: ProfileOptions) -> Wanted:
    """What is to be measured, with what is not given."""
    return Wanted(
        tasks=tuple(dict.fromkeys(options.tasks or names())),
        sizes=tuple(dict.fromkeys(options.sizes or (QUICK_SIZES if options.quick else SIZES))),
        formats=tuple(dict.fromkeys(options.formats or (QUICK_FORMATS if options.quick else FORMATS))),
        batches=tuple(dict.fromkeys(options.train_batches or (BATCH,))),
    )


def check(options: ProfileOptions, name: str) -> None:
    """name: of the machine. Raises EdgebenchError for the first mistake."""
    if options.models is not None:
        check_folder("--models", options.models)
    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError as error:
        mend = "write a-z, 0-9 and - between them, at most 63"
        raise EdgebenchError(f"--name {name}: no name of a profile ({mend})") from error
    if name == HOST:
        raise EdgebenchError(f"--name {name}: means a node that is not emulated (name the machine otherwise)")
    _check_place(options, name)
    for each in options.formats:
        if each not in FORMATS:
            raise EdgebenchError(f"--format {each}: no such number format{choice_of(FORMATS)}")
    if options.max_batch is not None and options.max_batch < 1:
        raise EdgebenchError(f"--max-batch {options.max_batch}: no number of samples (1 or more)")
    for batch in options.train_batches:
        if not 1 <= batch <= _MOST_TRAIN_BATCH:
            raise EdgebenchError(f"--train-batch {batch}: no number of samples (1 to {_MOST_TRAIN_BATCH:,})")
    for size in options.message_bytes:
        if not 1 <= size <= _MOST_MESSAGE_BYTES:
            raise EdgebenchError(f"--message-bytes {size}: no size of a message (1 to {_MOST_MESSAGE_BYTES:,})")
    for task in options.tasks:
        task_named(task)


def _check_place(options: ProfileOptions, name: str) -> None:
    if options.out is not None:
        check_file("--out", options.out)
        if options.out.suffix != ".json":
            raise EdgebenchError(f"--out {options.out}: a profile is JSON (name a file that ends in .json)")
    elif options.keep:
        kept = kept_profile(name)
        check_folder("EDGEBENCH_HOME", kept.parent)
        if kept.exists():
            raise EdgebenchError(f"--name {name}: is kept already, as {kept} (give another, an --out, or remove it)")


class _Measuring:
    """One thing after another."""

    def __init__(self, options: ProfileOptions, meter: Meter | None) -> None:
        self._quick = options.quick
        self._max_batch = options.max_batch
        self._tell = options.tell
        self._meter = meter
        self._patience = Patience(_LEAST, _MOST, _MOST_EACH_S)
        self._done = 0
        self._steps = 0
        self._idle_w: float | None = None

    def plan(self, models: Sequence[KitModel], steps: Sequence[KitStep]) -> None:
        """Share the time out among what there is to be timed."""
        batches = sum(len(self._batches(model)) for model in models)
        pictures = 2 * len(QUALITIES) * sum(map(_is_picture, _one_a_task(models)))
        distributions = batches + pictures + 2 * len(steps)
        each_s = (_QUICK_TIMED_S if self._quick else _TIMED_S) / distributions
        most = _QUICK_MOST if self._quick else _MOST
        self._patience = Patience(_LEAST, most, min(max(each_s, _LEAST_EACH_S), _MOST_EACH_S))
        self._steps = 2 + len(models) + sum(map(_is_picture, _one_a_task(models))) + len(steps)

    def messages(
        self, models: Sequence[KitModel], inference: Sequence[Inference], sizes_bytes: Sequence[int]
    ) -> MessagesFound:
        """What messages cost while the quickest of the models decides: with any other it takes longer to tell.
        sizes_bytes: of some, besides those that are always measured and those of the tasks' samples."""
        self._next("messages")
        singles = _singles(inference)
        quickest = min((model for model in models if _key(model) in singles), key=lambda model: singles[_key(model)])
        model = ModelInUse(str(quickest.path), quickest.manifest, str(quickest.samples))
        calls = _QUICK_MESSAGES if self._quick else _MESSAGES
        return measured_messages(calls, self._tell, model, (*sizes_bytes, *_of_samples(models)))

    def inference(self, model: KitModel) -> Iterator[Inference]:
        """A model at each of its batch sizes; none where it does not run here."""
        manifest, batches = model.manifest, self._batches(model)
        what = f"{manifest.task}, {manifest.model_size}, {manifest.runtime}, {manifest.quantisation}"
        self._next(f"{what}: batches of {listed([str(each) for each in batches])}")
        job = InferenceJob(str(model.path), manifest, str(model.samples), batches, self._patience)
        found = self._found(job, what)
        if found is None:
            return
        for batch in batches:
            if str(batch) not in found.took_ns:
                self._tell(f"{what}: batches of {batch}: not measured: {found.error}")
                continue
            yield Inference(
                task=manifest.task,
                size=manifest.model_size,  # type: ignore[arg-type]
                runtime=manifest.runtime,  # type: ignore[arg-type]
                quantisation=manifest.quantisation,  # type: ignore[arg-type]
                threads=1,
                batch=batch,
                times=times_of(found.took_ns[str(batch)]),
                first_ms=_rounded(found.first_ms),
                memory_mb=_rounded(found.memory_mb) if found.error is None else None,
            )

    def pictures(self, model: KitModel) -> Iterator[PictureCost]:
        """A task's samples as pictures, where they are such."""
        if not _is_picture(model):
            return
        self._next(f"pictures of {model.manifest.task}")
        found = self._found(PictureJob(str(model.samples), QUALITIES, self._patience), "pictures")
        if found is None:
            return
        for quality in QUALITIES:
            if f"compress {quality}" not in found.took_ns:
                self._tell(f"pictures of {model.manifest.task}, quality {quality}: not measured: {found.error}")
                continue
            compress, decompress = (times_of(found.took_ns[f"{what} {quality}"]) for what in ("compress", "decompress"))
            yield PictureCost(model.manifest.task, quality, compress, decompress)

    def training(self, step: KitStep) -> Iterator[TrainingCost]:
        """Learning on a device."""
        what = f"{step.task}, {step.size}: training steps of {step.batch} samples"
        self._next(what)
        graph, weights, x, y = (str(step.folder / each) for each in (STEP, WEIGHTS, LEARNED_X, LEARNED_Y))
        found = self._found(LearningJob(graph, weights, x, y, self._patience), what)
        if found is not None and "rest" not in found.took_ns:
            self._tell(f"{what}: not measured: {found.error}")
        elif found is not None:
            step_times, rest = (times_of(found.took_ns[each]) for each in ("step", "rest"))
            memory_mb = _rounded(found.memory_mb)
            yield TrainingCost(step.task, step.size, "litert", step.batch, step_times, rest, memory_mb)

    def sustained(
        self, models: Sequence[KitModel], inference: Sequence[Inference], cores: int
    ) -> tuple[Sustained | None, Power | None]:
        """All cores busy with the slowest of the models; and what the machine draws then, and when it does nothing."""
        singles = _singles(inference)
        timed = [model for model in models if _key(model) in singles]
        if not timed:
            return None, None
        load_s = _QUICK_SUSTAINED_S if self._quick else _SUSTAINED_S
        self._next(f"all {cores} cores busy for {load_s:g} s")
        reader = MeterReader(self._meter, self._note_meter)
        if self._meter is not None:
            sleep_s(_IDLE_S)
        idle_w = reader.watts()
        slowest = max(timed, key=lambda model: singles[_key(model)])
        job = SustainedJob(str(slowest.path), slowest.manifest, str(slowest.samples), load_s)
        children = [_child(job) for _ in range(cores)]
        found, hottest = _awaited(children, load_s + _PATIENCE_S)
        active_w, power = reader.watts(), None
        if self._meter is not None and idle_w is not None and active_w is not None:
            power = Power(round(idle_w, 3), round(max(active_w, idle_w), 3), self._meter.source, measured=True)
        return sustained_of(found, load_s, hottest), power

    def _note_meter(self, entry: Entry) -> None:
        if isinstance(entry, Metered) and entry.failed is not None:
            self._tell(f"power is not measured: {entry.source}: {entry.failed}")

    def _found(self, job: Job, what: str) -> Timed | None:
        """What a job came to; None, and a line that says why, where it came to nothing."""
        try:
            found = _read(_child(job))
        except ModelError as error:
            self._tell(f"{what}: not measured: {error}")
            return None
        return found

    def _batches(self, model: KitModel) -> tuple[int, ...]:
        batches = model.manifest.batches[:2] if self._quick else model.manifest.batches
        return tuple(each for each in batches if self._max_batch is None or each <= self._max_batch)

    def _next(self, what: str) -> None:
        self._done += 1
        self._tell(f"{self._done} of {self._steps}: {what}")


def _child(job: Job) -> ChildProcess:
    child = ChildProcess(
        [sys.executable, "-m", model_child.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what runtimes greet with
    )
    child.write_line(msgspec.json.encode(job))
    return child


def _read(child: ChildProcess, timeout_s: float = _PATIENCE_S) -> Timed:
    """What it found, of which each part takes so long at most, and, as its error, why it found no more; it has ended
    then. Raises ModelError where it found nothing."""
    found, too_late = Timed(), None
    try:
        while line := child.read_line(timeout_s):
            found = found.and_of(msgspec.json.decode(line, type=Timed))
    except TimeoutError:
        too_late = f"not done after {timeout_s:.0f} s"
    finally:
        status = child.end()
    why = found.error or too_late
    if why is None and (status or not (found.took_ns or found.medians_ns)):
        why = f"the process that ran it ended ({describe_end(status)})"
    if not (found.took_ns or found.medians_ns):
        raise ModelError(why)
    return msgspec.structs.replace(found, error=why)


def _awaited(children: Sequence[ChildProcess], timeout_s: float) -> tuple[list[Timed], float | None]:
    """What each found that found anything in time, and the highest temperature meanwhile."""
    temperatures = [hottest_c()]
    until_s = now_s() + timeout_s
    while not all(child.has_ended for child in children) and now_s() < until_s:
        sleep_s(_LOOK_S)
        temperatures.append(hottest_c())
    found = []
    for child in children:
        with contextlib.suppress(ModelError):
            found.append(_read(child, _LOOK_S))
    return found, max((each for each in temperatures if each is not None), default=None)


def _one_a_task(models: Sequence[KitModel]) -> list[KitModel]:
    return list({model.manifest.task: model for model in reversed(models)}.values())[::-1]


def _is_picture(model: KitModel) -> bool:
    return picture_size(_sample(model)) is not None


def _of_samples(models: Sequence[KitModel]) -> tuple[int, ...]:
    """Of messages that hold the largest of all samples, where no other that is measured is as large."""
    largest = max(_sample(model).size_bytes for model in _one_a_task(models)) + BESIDE_BYTES
    return (largest,) if largest > 4 * VALUES[-1] else ()


def _sample(model: KitModel) -> TensorSpec:
    samples = np.load(model.samples, mmap_mode="r", allow_pickle=False)
    return TensorSpec(str(samples.dtype), samples.shape[1:])


def _singles(inference: Sequence[Inference]) -> dict[tuple[str, str, str], float]:
    """The mean of what a single sample takes, by model, us."""
    return {(each.task, each.size, each.quantisation): each.times.mean_us for each in inference if each.batch == 1}


def _key(model: KitModel) -> tuple[str, str, str]:
    return model.manifest.task, model.manifest.model_size, model.manifest.quantisation


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _system() -> str:
    return f"{platform.system()} {platform.release()}"
