"""The avatar: Gaussians bound to a head, the network that bends the binding, and both on disk."""
