"""Clients that score text pairs by a server over HTTP."""

from simile.client.answers import Similarity, Usage
from simile.client.clients import AsyncClient, Client
