"""A Hugging Face folder: config.json and safetensors, checked against each other before any weight is read.

Only safetensors are read: pickles run code, so a folder that has nothing else is refused with the way to convert it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.huggingface import generation_config, registry
from t5x_style.huggingface.json_files import read_json
from t5x_style.huggingface.weights import safetensors_files, tensor_names
from t5x_style.huggingface.weights.safetensors_files import StoredTensor
from t5x_style.huggingface.weights.weight_map import WeightMap

CONFIG, GENERATION = "config.json", "generation_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class Folder:
    """An opened folder; its weights are still on disk.

    Attributes:
      path: the folder. settings: its config.json. family: the module that reads it. config: our configuration.
      mapping: where every tensor goes. tensors: the tensors that `mapping` names, by those names.
      ignored: names in the files that nothing needs, such as buffers and tied copies.
    """

    path: Path
    settings: Mapping[str, Any]
    family: ModuleType
    config: Any
    mapping: WeightMap
    tensors: Mapping[str, StoredTensor]
    ignored: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def is_folder(path: str | Path) -> bool:
    """Is it a Hugging Face folder (and no MODEL_DIR)?"""
    return files.is_file(files.join(path, CONFIG)) and not files.exists(files.join(path, "model.json"))


def open_folder(path: str | Path, config: Any = None) -> Folder:
    """Reads config.json and the headers of the weights.

    Args:
      path: the folder; of a URL a local copy is made.
      config: our configuration to read it into, one that has the folder's parameters but may be executed otherwise
        (initialisation, padding of the vocabulary); None: the one that config.json describes.

    Raises:
      UserError: it is no such folder, its architecture is not known, a file is missing, cut off or broken (of those for
        generation too), or a tensor is missing, has no place or another shape than config.json says.
    """
    folder = files.local_folder(path)
    settings = read_settings(folder)
    source = str(folder / CONFIG)
    family = registry.family(settings, source)
    if "quantization_config" in settings:
        raise UserError(f"{source}: quantised weights are not read; give a folder in bfloat16, float16 or float32")
    generation_config.read(folder, settings)
    stored = read_headers(folder, registry.class_name(settings, source))
    if hasattr(family, "complete"):
        settings = _understood(lambda: family.complete(settings, stored), source)
    described = config_of(family, settings, source) if config is None else config
    names = tensor_names.match(stored, described, family, str(folder))
    if config is not None and names.config != config:
        raise UserError(f"{str(folder)!r}: its head is a table of its own; configure tied_embeddings=False")
    opened = Folder(folder, settings, family, names.config, names.mapping, names.tensors, names.ignored)
    _check_shapes(opened)
    return opened


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of a folder's config.json.

    Raises:
      UserError: there is no such folder or file, or it holds no JSON object.
    """
    if not folder.exists():
        raise UserError(
            f"{str(folder)!r} does not exist; give a Hugging Face folder (a name on the Hub: download it first, "
            "`hf download NAME --local-dir FOLDER`)"
        )
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is a file; give the Hugging Face folder that holds {CONFIG} and the weights")
    if not (folder / CONFIG).is_file():
        if (folder / "model.json").is_file():
            raise UserError(f"{str(folder)!r} is a MODEL_DIR, no Hugging Face folder; `export` makes one of it")
        raise UserError(f"{str(folder)!r} is no Hugging Face folder: it has no {CONFIG}")
    settings = read_json(folder / CONFIG)
    if not isinstance(settings, dict):
        raise UserError(f"{folder / CONFIG} must hold a JSON object")
    return settings


def config_of(family: ModuleType, settings: Mapping[str, Any], source: str) -> Any:
    """Our configuration of a config.json; UserError where a setting is missing or of no use."""
    return _understood(lambda: family.from_config(settings), source)


def _understood(read: Callable[[], Any], source: str) -> Any:
    """What a family makes of settings; whatever it stumbles over is one line with the file's path."""
    try:
        return read()
    except KeyError as error:
        raise UserError(f"{source}: {error.args[0]!r} is missing; add it, or copy the file again") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{source}: a setting has a wrong type or value ({error}); correct it") from error
    except UserError as error:
        raise UserError(f"{source}: {str(error).removeprefix(f'{CONFIG}: ')}") from error


def read_headers(folder: Path, class_name: str = "AutoModel") -> dict[str, StoredTensor]:
    """Every tensor of the folder, by its name in the files.

    Raises:
      UserError: there are no safetensors, a file of the index is missing, or one is cut off or broken.
    """
    if not (folder / INDEX).is_file():
        if (folder / SINGLE).is_file():
            return safetensors_files.read_header(folder / SINGLE)
        raise UserError(_no_weights(folder, class_name))
    index = read_json(folder / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{folder / INDEX}: it has no weight_map of tensor names and files; copy the file again")
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise UserError(f"{folder / INDEX} names the file {name!r}, which does not exist; copy it into the folder")
        header = safetensors_files.read_header(file)
        missing = sorted(tensor for tensor, holder in places.items() if holder == name and tensor not in header)
        if missing:
            raise UserError(f"{folder / INDEX}: tensor {missing[0]} should be in {name}, which does not hold it")
        found |= {tensor: held for tensor, held in header.items() if places.get(tensor, name) == name}
    return found


def _no_weights(folder: Path, class_name: str) -> str:
    if any(folder.glob("*.safetensors")):
        return f"{str(folder)!r} has neither {SINGLE} nor {INDEX}; copy the index of its shards too"
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        return (
            f"{str(folder)!r} has only pickled weights (.bin), which can run code and are not read; convert them where "
            f"you trust them: python -c \"import transformers; transformers.{class_name}.from_pretrained('SRC')"
            ".save_pretrained('DST')\""
        )
    return f"{str(folder)!r} has no weights: neither {SINGLE} nor {INDEX}"


def _check_shapes(opened: Folder) -> None:
    for rule, _ in opened.mapping.rules():
        tensor = opened.tensors[rule.theirs]
        if tensor.shape != rule.layout.theirs:
            raise UserError(
                f"{tensor.file}: tensor {tensor.name} has shape {tensor.shape}, {CONFIG} needs {rule.layout.theirs}"
            )
        _ = tensor.dtype  # refuses what is no plain float


def existing(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of the files that the folder has."""
    return [folder / name for name in names if (folder / name).is_file()]
