"""The CloudEvents endpoint: takes events over HTTP (KServe, Seldon, Knative, any sender) into a transport."""

from monitor.ingest.endpoint import Endpoint
from monitor.ingest.tokens import Tokens

__all__ = ["Endpoint", "Tokens"]
