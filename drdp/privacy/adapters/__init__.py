"""Host libraries' interfaces with the certified accountant behind them."""
