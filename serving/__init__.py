"""The HTTP service of a bundle: `serving.server.run` is the process, `serving.app.create_app` the ASGI application."""
