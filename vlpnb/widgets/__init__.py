"""Interactive views with static fallbacks: voken, retrieval, attention and region explorer, embedding map, stepper.

Every view is a small Python class and one plain ES module on anywidget: nothing is built, nothing asks the network.
`base.py` puts the shared `base.js` and `base.css` in front of each module.
"""
