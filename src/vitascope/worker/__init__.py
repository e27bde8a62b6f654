"""The worker process: it drives the engine and listens between steps. No HTTP and no SQL here."""
