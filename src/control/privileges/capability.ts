/** What a virtual cluster as a whole may do, whoever asks in it. */
import { InputError } from '../../base/index.ts';
import type { Capability } from '../../catalog/index.ts';
import type { SessionIdentity } from '../contract.ts';
import type { Core } from '../core.ts';
import { isSystem } from './privileges.ts';

/** The system VC has them all. @throws InputError `insufficient_privilege` */
export function requireCapability(core: Core, session: SessionIdentity, capability: Capability): void {
  const { virtualClusterId, virtualClusterName: name } = session;
  if (isSystem(virtualClusterId)) return;
  if (core.catalog.get(virtualClusterId)?.capabilities.has(capability) === true) return;
  throw new InputError(
    'insufficient_privilege',
    `virtual cluster "${name}" does not have capability "${capability}"`,
    { hint: `the operator can grant it: ALTER VIRTUAL CLUSTER ${name} GRANT CAPABILITY ${capability}` },
  );
}
