/**
 * Completing a hollow event: one that was stored redacted, when the body comes that its content hash is of.
 *
 * In versions 1 and 2 a sender may give two events one id. Only the body of the very event that is stored completes it: one that
 * says the same of everything that the columns hold. Else type, place and parents would be those of one event, and the text of
 * another. From version 3 on the id is a hash of all of these.
 */

/**
 * The statement; the verdict on the redacted form is forgotten with it. `incoming`: what gives rows with the columns of
 * `incoming_pdus`, none of them hollow.
 */
export function completeHollow(incoming: string): string {
  return `
  WITH completed AS (
    UPDATE pdus p
       SET json = i.json, hollow = false
      FROM (SELECT p.nid, i.json
              FROM (${incoming}) AS i JOIN pdus p ON p.event_id = i.event_id
              LEFT JOIN state_keys k ON k.nid = p.state_key_nid
             WHERE p.hollow
               AND (p.room_id, p.type, p.sender, p.depth, p.prev_events, p.auth_events) =
                   (i.room_id, i.type, i.sender, i.depth, i.prev_events, i.auth_events)
               AND (k.state_key, p.membership) IS NOT DISTINCT FROM (i.state_key, i.membership)
             ORDER BY p.event_id
               FOR NO KEY UPDATE OF p) AS i
     WHERE p.nid = i.nid
    RETURNING p.nid
  ), forgotten AS (
    DELETE FROM outlier_verdicts o USING completed c WHERE o.event_nid = c.nid
  )
  SELECT nid FROM completed`;
}
