"""The reference model: what every action must do by the rules of the business, without chain, files or clock."""
