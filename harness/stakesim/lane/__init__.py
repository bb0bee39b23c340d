"""The contract lane: calls straight into an EVM, judged by the reference model, thousands a second.

`world.py` deploys the contract and the people around it, `codec.py` encodes and decodes, `moves.py` is the language,
`play.py` plays a sequence and compares it with the model, `draw.py` and `mutate.py` make sequences, `search.py` is the
guided search, `shrink.py` makes findings short, and `story.py` exports them. `judge.py` judges many contracts by what a
search of the sound one has kept (`knowledge.py`).
"""
