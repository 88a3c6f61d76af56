"""Hot paths beside a peer, as a ratio measured side by side in one run."""
