"""What is done about places once every adapter has had its turn: copies are moved so that others fit (packing), so that
loads become even (evening out loads that have not begun, rebalancing what serves) and so that copies are spread again.
"""
