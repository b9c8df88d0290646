"""A bundle over HTTP: `serving.server.run` is the process, `serving.app.create_app` the application alone."""
