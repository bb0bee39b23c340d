"""What a contract has to pass before it is deployed."""
