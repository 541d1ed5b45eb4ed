"""Every message of `proto/distgrad/v1` under one name: `from distgrad.wire import pb; pb.Frame, pb.Call, ...`.

One protobuf package means that no two files define the same name. A new file gets its line here.
"""

from .v1.coordinator_pb2 import *  # noqa: F403
from .v1.gradient_pb2 import *  # noqa: F403
from .v1.health_pb2 import *  # noqa: F403
from .v1.link_pb2 import *  # noqa: F403
from .v1.tensor_pb2 import *  # noqa: F403
from .v1.worker_pb2 import *  # noqa: F403
