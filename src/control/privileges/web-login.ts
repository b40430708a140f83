/** Logging in by name and password where no SQL session follows: the API and the console. */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import type { Capability } from '../../catalog/index.ts';
import { isPasswordOf, parseVerifier, SCRAM_KEY_BYTES, type ScramVerifier } from '../../pg/index.ts';
import { readCredential, requireEntry } from './access.ts';
import { admissionLimits } from './admission.ts';
import type { Core } from '../core.ts';
import type { LoginThrottle } from './login-throttle.ts';
import { type Asker, holdsPrivilege } from './privileges.ts';
import { route } from '../virtual-clusters/routing.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

export interface WebLoginRequest {
  /** Undefined for the default target. */
  readonly virtualClusterName: string | undefined;
  readonly user: string;
  readonly password: string;
  /** Of the client; undefined when it has none. */
  readonly address: string | undefined;
  readonly signal: AbortSignal;
}

/** Who has logged in, and where. */
export interface WebIdentity {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: string;
  readonly user: string;
  /** Of that virtual cluster. */
  readonly isAdmin: boolean;
  /** What the operator grants to that virtual cluster. */
  readonly capabilities: readonly Capability[];
  /** How long a session may live, as the virtual cluster says. */
  readonly sessionMs: number;
  /** Changes with the password. Kept where the session is, and shown to nobody. */
  readonly verifier: string;
}

/** As Postgres's default: an unknown name takes as long as a wrong password. */
const MOCK: ScramVerifier = {
  iterations: 4_096,
  salt: Buffer.alloc(16),
  storedKey: Buffer.alloc(SCRAM_KEY_BYTES),
  serverKey: Buffer.alloc(SCRAM_KEY_BYTES),
};

/**
 * Checks name and password against the virtual cluster's own roles, as the SQL port does.
 * @throws InputError `authentication_failed`, `authorization_invalid`; AppError `service_unavailable`, `too_many_connections`
 */
export async function logInByPassword(
  core: Core,
  throttle: LoginThrottle,
  request: WebLoginRequest,
): Promise<WebIdentity> {
  const { virtualClusterName: name, user, password, address, signal } = request;
  const { virtualClusterId, virtualClusterName } = await route(core, { name, signal });
  const asker = askerIn(core, virtualClusterId, { user, signal });
  const credential = await readCredential(asker);
  const attempt = { address, virtualClusterId, user };
  throttle.limits = admissionLimits(core.settings, virtualClusterId);
  await throttle.admit(attempt, { signal });
  const text = credential?.canLogin === true && !credential.isExpired ? credential.verifier : null;
  const verifier = parseVerifier(text ?? '');
  const isRight = await isPasswordOf(verifier ?? MOCK, password);
  if (!isRight || verifier === undefined || text === null) {
    throw new InputError('authentication_failed', `password authentication failed for user "${user}"`);
  }
  throttle.succeeded(attempt);
  await requireEntry(asker);
  const timeoutMicros = core.settings.integer(virtualClusterId, 'server.web_session.timeout');
  return {
    virtualClusterId,
    virtualClusterName,
    user,
    isAdmin: await holdsPrivilege(asker, []),
    capabilities: [...requireRecord(core, virtualClusterId).capabilities],
    sessionMs: Number(timeoutMicros / 1_000n),
    verifier: text,
  };
}

/** Who it is now: undefined when the role may no longer enter, or has another password. @throws AppError while the instance is silent */
export async function stillLoggedIn(
  core: Core,
  identity: WebIdentity,
  options: { signal: AbortSignal },
): Promise<WebIdentity | undefined> {
  const { virtualClusterId, user } = identity;
  const record = core.catalog.get(virtualClusterId);
  if (record === undefined) return undefined;
  await route(core, { name: record.name, ...options });
  const asker = askerIn(core, virtualClusterId, { user, ...options });
  const credential = await readCredential(asker);
  if (credential?.canLogin !== true || credential.isExpired || credential.verifier !== identity.verifier) {
    return undefined;
  }
  const isAdmin = await holdsPrivilege(asker, []);
  // The system virtual cluster admits few, and forgets them when they are admins no more.
  if (virtualClusterId === SYSTEM_VIRTUAL_CLUSTER_ID && !(await mayEnter(asker))) return undefined;
  const capabilities = [...record.capabilities];
  return { ...identity, virtualClusterName: record.name, isAdmin, capabilities };
}

async function mayEnter(asker: Asker): Promise<boolean> {
  try {
    await requireEntry(asker);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

function askerIn(
  core: Core,
  virtualClusterId: VirtualClusterId,
  asking: Pick<Asker, 'user' | 'signal'>,
): Asker {
  return { ...asking, instance: core.services.instanceOf(requireRecord(core, virtualClusterId)) };
}
