"""Episodes: what happened, as bags that nothing is lost from."""

from optr.episodes.bag import BagWriter, TopicCount, TopicInfo
from optr.episodes.recording import Recording, SequenceCheck

__all__ = ["BagWriter", "Recording", "SequenceCheck", "TopicCount", "TopicInfo"]
