"""Who runs next and where: a pure policy, a dispatcher that acts, a fleet that keeps workers alive."""
