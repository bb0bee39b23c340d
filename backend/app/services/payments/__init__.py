"""Payments in INR: quotes, gateways, refunds. The platform's wallet sends wei only for INR that it has."""
