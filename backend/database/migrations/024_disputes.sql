-- A payment may have several disputes: one that is won says nothing about another that is open.

-- disputes: outcome of each dispute, by the gateway's id of it. `dispute` is what follows from all of them: lost if one
--     is lost, else open if one is open, else won.
ALTER TABLE payments ADD COLUMN IF NOT EXISTS disputes jsonb NOT NULL DEFAULT '{}';

UPDATE payments SET disputes = jsonb_build_object(dispute_id, dispute) WHERE dispute_id IS NOT NULL AND disputes = '{}';
