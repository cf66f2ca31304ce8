"""The public side: frontends for clients, a listener for agents, and the choice between agents."""
