"""What every recipe's ``train.py`` does, in SpeechBrain's manner: a YAML file and overrides."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from corpora import find, limited, load_trials, part_of
from mixtures import train_mixture
from settings import configuration, read_settings, runtime
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process
from systems import DEV_SCORES_NAME, NETWORK_NAME, build_network, save_network, write_dev_scores
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader

from voiceguard.errors import ParameterError, VoiceguardError
from voiceguard.training.checkpoints import History, WholeCheckpointer, settle_configuration
from voiceguard.training.clip_cache import open_cache
from voiceguard.training.data import Batch
from voiceguard.training.objectives import build_objective
from voiceguard.training.perturb import build_pipeline
from voiceguard.training.perturb_spectrum import SpecAugment, mask_features
from voiceguard.training.schedules import build_schedule
from voiceguard.training.scoring import equal_error_rate, processes, score_windows
from voiceguard.training.trial_brain import DEV_FIGURE, TrialBrain
from voiceguard.training.trials import Clips, EpochBatches, Files, TrainingCrops, Windows

_OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_BRAIN_SETTINGS = (
    *("seed", "judge_every", "precision", "grad_accumulation_factor", "max_grad_norm"),
    *("ckpt_interval_steps", "noprogressbar"),
)


def main(corpus: str, argv: list[str]) -> None:
    """Train as a YAML file says; run again, it goes on where it was stopped."""
    try:
        _run(corpus, argv)
    except VoiceguardError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def _run(corpus: str, argv: list[str]) -> None:
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    hparams = runtime(read_settings(hparams_file, overrides), run_opts)
    ddp_init_group(run_opts)
    folder = Path(hparams["output_folder"])
    plain = configuration(hparams, corpus=corpus, processes=processes()[1])
    if if_main_process():
        settle_configuration(folder, plain)
    ddp_barrier()
    if hparams["threads"]:
        torch.set_num_threads(hparams["threads"])
    if hparams["system"] == "gmm":
        if if_main_process():
            train_mixture(hparams, corpus, folder)
    elif (folder / NETWORK_NAME).is_file():
        print(f"{folder} holds a training that has ended.")
    else:
        _train_network(hparams, run_opts, corpus, folder)


def _train_network(hparams: dict[str, Any], run_opts: Any, corpus: str, folder: Path) -> None:
    crops = _training_crops(hparams, corpus)
    dev_trials, dev_clips = data(hparams, corpus, "dev", hparams["dev_limit"])
    dev = Windows(dev_trials, dev_clips, length=hparams["crop_samples"])
    process, count = processes()
    batches = EpochBatches(
        len(crops),
        batch_size=hparams["batch_size"],
        accumulate=hparams["grad_accumulation_factor"],
        seed=hparams["seed"],
        process=process,
        processes=count,
    )
    brain = make_brain(hparams, run_opts, folder, steps_per_epoch=batches.steps)
    brain.crops, brain.batches = crops, batches
    brain.judge = lambda network: equal_error_rate(
        _dev_scores(network, dev, hparams, brain.device, share=True), dev
    )
    brain.fit(brain.hparams.counter, _loader(crops, batches, hparams["workers"]))
    if if_main_process():
        _finish(brain, dev, hparams, corpus, folder)


def data(
    hparams: dict[str, Any], corpus: str, name: str, limit: int = 0
) -> tuple[list[Any], Clips]:
    """Trials of a part and their audio, decoded into the cache first where one is asked for."""
    part = part_of(corpus, name)
    root = Path(hparams["data_folder"])
    trials = limited(load_trials(part, root), limit, hparams["seed"])
    files = Files(trials, find(root, part.audio, "audio"), suffix=part.suffix)
    if not hparams["cache"]:
        return trials, files
    folder = Path(hparams["cache"], corpus, name)
    if if_main_process():
        open_cache(files, folder)
    ddp_barrier()
    return trials, open_cache(files, folder)


def _training_crops(hparams: dict[str, Any], corpus: str) -> TrainingCrops:
    trials, clips = data(hparams, corpus, "train")
    return TrainingCrops(
        trials,
        clips,
        length=hparams["crop_samples"],
        perturb=build_pipeline(hparams["perturb"]) if hparams["perturb"] else None,
        seed=hparams["seed"],
    )


def _loader(crops: TrainingCrops, batches: EpochBatches, workers: int) -> DataLoader[Batch]:
    return DataLoader(
        crops,
        batch_sampler=batches,
        collate_fn=Batch.collate,
        num_workers=workers,
        # A generator of its own: the loader draws from it, and training's must not move.
        generator=torch.Generator(),
    )


def make_brain(
    hparams: dict[str, Any], run_opts: Any, folder: Path, *, steps_per_epoch: int
) -> TrialBrain:
    """The Brain with its network, optimiser, averaged weights and checkpoints, all seeded."""
    torch.manual_seed(hparams["seed"])
    network = build_network(hparams["system"], hparams["options"])
    if hparams["channels_last"]:
        network.to(memory_format=torch.channels_last)
    objective = build_objective(hparams["objective"], **hparams["objective_options"])
    head = getattr(network.config, "head", "linear")
    if head not in objective.heads:
        raise ParameterError(
            f"Objective {hparams['objective']!r} goes with a head of {list(objective.heads)}. "
            f"Got a network with {head!r} instead; set options: head."
        )
    average = None if hparams["average"] == "none" else AveragedModel(network)
    if hparams["spec_augment"] is not None:
        mask_features(network, SpecAugment(**hparams["spec_augment"]))
    counter, history = sb.utils.epoch_loop.EpochCounter(hparams["epochs"]), History()
    kept = {"model": network, "counter": counter, "history": history}
    checkpointer = WholeCheckpointer(
        folder / "checkpoints", kept if average is None else {**kept, "average": average}
    )
    settings = {
        **{name: hparams[name] for name in _BRAIN_SETTINGS},
        "objective": objective,
        "schedule": build_schedule(
            hparams["schedule"],
            peak=hparams["learning_rate"],
            total_steps=steps_per_epoch * hparams["epochs"],
            steps_per_epoch=steps_per_epoch,
            **hparams["schedule_options"],
        ),
        "steps_per_epoch": steps_per_epoch,
        "counter": counter,
        "history": history,
        "average": average,
        "average_when": hparams["average"],
    }
    brain = TrialBrain({"model": network}, _optimiser(hparams), settings, run_opts, checkpointer)
    if average is not None:
        average.to(brain.device)
    return brain


def _optimiser(hparams: dict[str, Any]) -> Any:
    name = hparams["optimiser"]
    if name not in _OPTIMISERS:
        raise ParameterError(
            f"The 'optimiser' parameter must be one of {sorted(_OPTIMISERS)}. Got {name!r} instead."
        )
    options = {"lr": hparams["learning_rate"], "weight_decay": hparams["weight_decay"]}
    return lambda parameters: _OPTIMISERS[name](
        parameters, **options, **hparams["optimiser_options"]
    )


def _dev_scores(
    network: Any, dev: Windows, hparams: dict[str, Any], device: str, *, share: bool = False
) -> Any:
    return score_windows(
        network,
        dev,
        batch_size=hparams["eval_batch_size"],
        device=device,
        workers=hparams["workers"],
        share=share,
    )


def _finish(
    brain: TrialBrain, dev: Windows, hparams: dict[str, Any], corpus: str, folder: Path
) -> None:
    """Choose between the best epoch and the averaged weights, on dev, and store the choice."""
    candidates = {}
    for name, network in _candidates(brain, hparams).items():
        scores = _dev_scores(network, dev, hparams, brain.device)
        candidates[name] = (equal_error_rate(scores, dev), scores, network)
    chosen = min(candidates, key=lambda name: candidates[name][0])
    figure, scores, network = candidates[chosen]
    about = {name: hparams[name] for name in ("name", "system", "options", "crop_samples", "seed")}
    about |= {"corpus": corpus, "chosen": chosen, DEV_FIGURE: figure}
    write_dev_scores(folder / DEV_SCORES_NAME, dev.trials, scores)
    figures = {name: candidate[0] for name, candidate in candidates.items()}
    choice = {"chosen": chosen, DEV_FIGURE: figures}
    (folder / "choice.json").write_text(json.dumps(choice, indent=2) + "\n", "utf-8")
    save_network(folder / NETWORK_NAME, network, about)
    print(f"{chosen}: dev EER {100 * figure:.3f} %; wrote {folder / NETWORK_NAME}")


def _candidates(brain: TrialBrain, hparams: dict[str, Any]) -> dict[str, Any]:
    """The network of the best epoch on dev, and the average with batch statistics of its own."""
    best = brain.checkpointer.find_checkpoint(min_key=DEV_FIGURE)
    network = build_network(hparams["system"], hparams["options"])
    state = torch.load(best.paramfiles["model"], map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    candidates = {f"epoch {best.meta['epoch']}": network.to(brain.device)}
    if brain.hparams.average is not None:
        candidates["average"] = _with_statistics(brain, hparams)
    return candidates


def _with_statistics(brain: TrialBrain, hparams: dict[str, Any]) -> Any:
    """The averaged network; its batch norms see one more epoch of training crops."""
    network = brain.hparams.average.module
    brain.crops.epoch = brain.batches.epoch = hparams["epochs"] + 1
    brain.batches.start = 0
    torch.manual_seed(hparams["seed"])
    loader = _loader(brain.crops, brain.batches, hparams["workers"])
    update_bn((batch.waveform for batch in loader), network, device=brain.device)
    return network
