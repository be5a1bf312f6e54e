"""Token shards to batches: `open_loader(DataConfig(...))` (see docs/data_loading.md)."""

from t5x_style.data.data_config import DataConfig, Source, Stage
from t5x_style.data.loader import Loader, merge_states, open_loader
from t5x_style.data.vocabulary import Vocabulary

__all__ = ["DataConfig", "Loader", "Source", "Stage", "Vocabulary", "merge_states", "open_loader"]
