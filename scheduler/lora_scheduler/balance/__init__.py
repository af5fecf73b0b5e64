"""What is done about places once every adapter has had its turn: replicas are moved so that others fit (packing), so
that loads become even (evening out loads that have not begun, rebalancing what serves) and so that replicas are spread
again.
"""
