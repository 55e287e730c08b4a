local firsts = {FIRSTS}
local lasts = {LASTS}

function envoy_on_request(handle)
  local source = handle:streamInfo():downstreamRemoteAddress()
  local a, b, c, d = string.match(source, "^(%d+)%.(%d+)%.(%d+)%.(%d+)")
  if not a then
    return
  end
  local address = ((a * 256 + b) * 256 + c) * 256 + d
  -- The number of ranges that begin at or before the address.
  local low, high = 0, #firsts
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if firsts[middle] <= address then
      low = middle
    else
      high = middle - 1
    end
  end
  if low > 0 and address <= lasts[low] then
    handle:respond({ [":status"] = "403" }, "Forbidden\n")
  end
end
