-- Why an operation can't proceed: the kind of the reason beside the sentence in `held`, and since when.

ALTER TABLE operations
    ADD COLUMN IF NOT EXISTS held_cause text,
    ADD COLUMN IF NOT EXISTS held_at timestamptz;

UPDATE operations SET held_cause = 'refused', held_at = updated_at WHERE held IS NOT NULL AND held_cause IS NULL;
