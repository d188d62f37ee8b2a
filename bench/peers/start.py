"""Starts Lambda's Python runtime as `python -m awslambdaric HANDLER` does in a function's folder.

Lambda says of each event that it is JSON; the simulator of its Runtime API does not, and the event would stay bytes. How events are
read is what awslambdaric leaves to be set.
"""

import os
import sys

sys.path[0] = os.getcwd()

from awslambdaric.__main__ import main  # noqa: E402
from awslambdaric.lambda_runtime_client import BaseLambdaRuntimeClient  # noqa: E402
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller  # noqa: E402


class Json(LambdaMarshaller):
    def unmarshal_request(self, request, content_type=None):
        return super().unmarshal_request(request)


BaseLambdaRuntimeClient.marshaller = Json()
main(sys.argv)
