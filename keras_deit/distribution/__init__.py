"""Where training runs: processes, replicas, and the strategy that joins them."""

from keras_deit.distribution.strategies import Strategy

__all__ = ["Strategy"]
