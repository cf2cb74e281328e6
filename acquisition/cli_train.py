"""The command line of learning: train sensing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from acquisition.cli_frame import BAD_INPUT, INTERRUPTED

train = typer.Typer(
    help="Learn masks and networks from your own images, for your own a and b.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataArgument = Annotated[
    list[Path], typer.Argument(help="Images: TIFF, PNG, NPY, NPZ, zarr, or folders of them.", show_default=False)
]


@train.callback()
def _learn() -> None:
    """Keep ``sensing`` a command of its own, beside those to come."""


@train.command()
def sensing(
    data: DataArgument,
    output: Annotated[Path, typer.Option(help="NAME of the model to write.")],
    alpha: Annotated[float, typer.Option(min=0.001, max=1.0, help="Compression ratio α.")] = 0.25,
    side: Annotated[int, typer.Option(help="Image side n, a power of two.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Largest number of repeats S.")] = 50,
    gain: Annotated[float | None, typer.Option(help="a, of images scaled to a maximum of 1.")] = None,
    variance: Annotated[float, typer.Option(help="b, of images scaled to a maximum of 1.")] = 0.0,
    noise: Annotated[Path | None, typer.Option(help="Calibration of a and b, instead of --gain; with --peak.")] = None,
    peak: Annotated[
        float | None, typer.Option(help="The brightest pixel's light in one exposure, in the calibration's units.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Images to validate on; none: a tenth of DATA, by field of view.")
    ] = None,
    draw: Annotated[str, typer.Option(help="systematic or bernoulli; paper-unet: bernoulli.")] = "systematic",
    network: Annotated[str, typer.Option(help="compact, or paper-unet (Wang et al. 2021).")] = "compact",
    gradient: Annotated[str, typer.Option(help="How the mask learns: relaxed, gumbel, or none.")] = "relaxed",
    start: Annotated[
        str,
        typer.Option(
            help="water-filling, uniform, low-sequency, half-half, random, or model (the mask of --begin-with)."
        ),
    ] = "water-filling",
    begin_with: Annotated[str | None, typer.Option(help="A trained model to start from: a name or a file.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most; an epoch sees every image once.")] = 40,
    batch: Annotated[int, typer.Option(min=1, help="Images a step; all of them where there are fewer.")] = 8,
    rate: Annotated[float, typer.Option(help="Highest learning rate of the network.")] = 2e-3,
    mask_rate: Annotated[float, typer.Option(help="Highest learning rate of the mask's logits.")] = 0.01,
    mask_share: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Share of the epochs in which the mask learns.")
    ] = 0.4,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better validation before it ends.")] = 15,
    patch: Annotated[int, typer.Option(help="Side of what the paper's U-Net sees in a step.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    raw_repeats: Annotated[
        bool,
        typer.Option("--raw-repeats", help="Learn from the camera's own noise: S raw frames of every field of view."),
    ] = False,
    sources: Annotated[
        Path | None, typer.Option(help="YAML list of name, licence, attribution, crops: whose images these are.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that exists.")] = False,
) -> None:
    """Learn the mask P* and a network together from images. Stopped, the same command goes on after its last epoch.

    Writes NAME.safetensors and NAME.json (the model), NAME.masks.png, NAME.training.png, and the folder NAME.training
    (checkpoint and log).
    """
    from acquisition.console_training import print_images, print_model, training_bar
    from acquisition.interrupts import orderly_interrupts
    from acquisition.training_request import model_output, noise_of_images, read_data_sources, unstated_source
    from models.learning.model_file import load_model
    from models.learning.result_plots import draw_masks
    from models.learning.shipped_models import find_model
    from models.learning.train_sensing import SensingRequest, masks_beside, train_sensing
    from models.learning.training import LOG, TrainingSettings
    from models.learning.training_images import training_images, with_repeats
    from models.learning.training_log import read_log
    from models.learning.training_plot import draw_training

    with missing_is_bad_input():
        written = model_output(output, overwrite=overwrite)
    a, b = noise_of_images(gain, variance, noise, peak)
    settings = TrainingSettings(
        epochs=epochs, batch=batch, rate=rate, mask_rate=mask_rate, mask_share=mask_share, patience=patience, seed=seed
    )
    request = SensingRequest(
        n=side,
        alpha=alpha,
        repeats=repeats,
        gain=a,
        variance=b,
        draw=draw,  # type: ignore[arg-type]  # words are checked by the request
        kind=network,  # type: ignore[arg-type]
        gradient=gradient,  # type: ignore[arg-type]
        start=start,  # type: ignore[arg-type]
        patch=patch,
        settings=settings,
    )
    stated = None if sources is None else read_data_sources(sources)
    try:
        with orderly_interrupts():
            with missing_is_bad_input():
                begun = None if begin_with is None else load_model(find_model(begin_with))
                images = training_images(data, validation or [], side, seed, repeats if raw_repeats else 0)
            print_images(images)
            with training_bar() as bar:
                model = train_sensing(
                    request,
                    with_repeats(images.training),
                    with_repeats(images.validation),
                    written.model,
                    written.folder,
                    data=stated or [unstated_source(data, len(images.training))],
                    command=_command(),
                    begin_with=begun,
                    on_step=bar.on_step,
                    on_epoch=bar.on_epoch,
                )
            log = read_log(written.folder / LOG)
            masks = masks_beside(request, model, images.training.images)
            draw_masks(written.masks, {alpha: masks}, title=f"{written.model.name}, S = {repeats}, {draw} draws")
            # The paper's method lets the mask learn to the end.
            always = gradient == "none" or network == "paper-unet"
            draw_training(written.training, log, None if always else settings.mask_share * epochs)
    except KeyboardInterrupt:
        epochs_done = len(read_log(written.folder / LOG))
        kept = f"the same command goes on after epoch {epochs_done}, kept in {written.folder}"
        typer.echo(f"interrupted: {kept if epochs_done else 'no epoch was finished, nothing is kept'}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    print_model(model, written, settings, log)


@contextmanager
def missing_is_bad_input() -> Iterator[None]:
    """Let what was named on the command line and is not there end as bad input does."""
    try:
        yield
    except FileNotFoundError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None


def _command() -> str:
    return shlex.join(["hadascope", *sys.argv[1:]])
