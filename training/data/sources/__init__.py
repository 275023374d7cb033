"""Where videos come from: folders, manifests, tar shards, local or at a URL, and lists that choose among them."""
