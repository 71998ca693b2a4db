"""TFDS builders for datasets that TFDS lacks or can no longer download."""
