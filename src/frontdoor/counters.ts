/** What a front door has done since it opened; the figures only rise. */
export interface FrontDoorCounters {
  connectionsAccepted: number;
  /** Clients that asked for a session and got none, whatever the reason; failed logins are among them. */
  connectionsRefused: number;
  authenticationsFailed: number;
  clientBytes: number;
  backendBytes: number;
  ownStatements: number;
  ownStatementsFailed: number;
  cancelRequests: number;
  backendsLost: number;
  sessionsReconnected: number;
  protocolViolations: number;
}

export function zeroCounters(): FrontDoorCounters {
  return {
    connectionsAccepted: 0,
    connectionsRefused: 0,
    authenticationsFailed: 0,
    clientBytes: 0,
    backendBytes: 0,
    ownStatements: 0,
    ownStatementsFailed: 0,
    cancelRequests: 0,
    backendsLost: 0,
    sessionsReconnected: 0,
    protocolViolations: 0,
  };
}
