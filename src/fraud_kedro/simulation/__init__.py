"""Transactions drawn from published statistics of the ULB credit-card table.

No row of the table is stored or copied: quantiles, correlations and hourly
shares by class are, and `fraud_kedro.simulation.simulator.simulate` draws from
them.
"""
