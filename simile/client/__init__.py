"""A server in the place of a bundle: pairs of texts -> scores, over HTTP."""

from simile.client.answers import Similarity, Usage
from simile.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "Similarity", "Usage"]
