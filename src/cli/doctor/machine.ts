/** What the machine brings: Node, and the Python that the demo's and the tests' Synapse runs on. */
import { type Environment } from '../../config/sources.ts';
import { findPython } from '../../launch/synapse-install.ts';
import { type Finding, firstLine } from './finding.ts';

/** `engines.node` of package.json. */
const NODE_MIN = [20, 19] as const;

/** Whether this Node.js is new enough. */
export function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isNewEnough = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  const finding = { subject: 'Node.js', found: `version ${version}` };
  if (isNewEnough) return { ...finding, verdict: 'ok' };
  return { ...finding, verdict: 'bad', remedy: `Install Node.js ${NODE_MIN.join('.')} or newer: https://nodejs.org` };
}

/** Whether there is a Python for the demo's Synapse. */
export async function checkPython(env: Environment): Promise<Finding> {
  const subject = 'Python';
  try {
    const { path, minor } = await findPython(env);
    return { subject, verdict: 'ok', found: `3.${minor} at ${path}, for the demo's Synapse` };
  } catch (error) {
    return {
      subject,
      verdict: 'note',
      found: firstLine(error),
      remedy:
        'Needed only by "rejoinder demo --resident synapse" and the interop tests (Debian: apt-get install python3-venv).',
    };
  }
}
