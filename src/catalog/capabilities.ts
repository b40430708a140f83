/** What a virtual cluster may do beyond its own data; granted and revoked by the operator. */
import { InputError } from '../base/index.ts';

export const CAPABILITIES = [
  'can_check_consistency',
  'can_debug_process',
  'can_use_nodelocal_storage',
  'can_view_node_info',
  'can_view_tsdb_metrics',
  'exempt_from_rate_limiting',
] as const;

export type Capability = (typeof CAPABILITIES)[number];
export type CapabilitySet = ReadonlySet<Capability>;

export const ALL_CAPABILITIES: CapabilitySet = new Set(CAPABILITIES);
export const NO_CAPABILITIES: CapabilitySet = new Set();
/** Of a virtual cluster made by CREATE without LIKE. */
export const DEFAULT_CAPABILITIES: CapabilitySet = new Set(['can_view_node_info', 'can_view_tsdb_metrics']);

/** @throws InputError `parameter_invalid` */
export function parseCapability(name: string): Capability {
  const found = CAPABILITIES.find((capability) => capability === name.toLowerCase());
  if (found === undefined) {
    throw new InputError('parameter_invalid', `unknown capability "${name}"`, {
      hint: `capabilities are ${CAPABILITIES.join(', ')}`,
    });
  }
  return found;
}
